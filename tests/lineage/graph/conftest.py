"""Step run records to draw, with no server."""

import hashlib

import pytest

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.lineage.graph.build import graph_of
from airflow_zen.lineage.pages import Pages
from airflow_zen.lineage.step_run import StepRun, StepRunId, StepState


@pytest.fixture
def table():
    """Make the ref of a table; the same name and content give the same artifact."""

    def make(name, content="", encoding="pandas.parquet@1"):
        digest = hashlib.sha256(f"{name}{content}".encode(errors="replace")).hexdigest()
        uri = f"s3://b/artifacts/{digest[:2]}/{digest}"
        return ArtifactRef(digest, uri, encoding, "pandas.DataFrame", 2812, name, "3 rows × 2 columns")

    return make


@pytest.fixture
def ran():
    """Make the record of a finished step of the DAG `d`."""

    def make(task, inputs=None, outputs=None, map_index=-1, try_number=1, **facts):
        facts = {"state": StepState.FINISHED, "started": 10.0, "ended": 12.5, **facts}
        ids = StepRunId("d", "r", task, map_index, try_number)
        return StepRun(ids, inputs=inputs or {}, outputs=outputs or {}, **facts)

    return make


@pytest.fixture
def pipeline(table, ran):
    """Load, train and score, a model among it, with an input of another DAG."""
    loaded, model = table("d/load"), table("d/train", encoding="sklearn.mlflow@1")
    return [
        ran("load", {"raw": table("archive/clean")}, {"output": loaded}, started=1.0, ended=2.0),
        ran("train", {"table": loaded}, {"output": model}, started=3.0, ended=9.0),
        ran("score", {"model": model, "table": loaded}, {"output": table("d/score")}, cache="hit", started=9.5),
    ]


@pytest.fixture
def drawn():
    """Make the graph of records, at most `together` alike side by side."""
    return lambda runs, together=3, pages=Pages(): graph_of("d", "r", runs, pages, together)  # noqa: B008
