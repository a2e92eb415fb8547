"""Step run records to draw, with no server."""

import hashlib

import pytest

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.lineage.graph.model import build_graph
from airflow_zen.lineage.mlflow.description import PageUrls
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId, StepState


@pytest.fixture
def table():
    """Make the ref of a table; the same name and content give the same artifact."""

    def make(name, content="", encoding="pandas.parquet@1"):
        digest = hashlib.sha256(f"{name}{content}".encode(errors="replace")).hexdigest()
        uri = f"s3://b/artifacts/{digest[:2]}/{digest}"
        return ArtifactRef(digest, uri, encoding, "pandas.DataFrame", 2812, name, "3 rows × 2 columns")

    return make


@pytest.fixture
def make_run():
    """Make the record of a finished step of the DAG `d`."""

    def make(task, inputs=None, outputs=None, map_index=-1, try_number=1, **facts):
        facts = {"state": StepState.FINISHED, "started": 10.0, "ended": 12.5, **facts}
        ids = StepRunId("d", "r", task, map_index, try_number)
        return StepRun(ids, inputs=inputs or {}, outputs=outputs or {}, **facts)

    return make


@pytest.fixture
def pipeline(table, make_run):
    """Load, train and score, a model among it, with an input of another DAG."""
    loaded, model = table("d/load"), table("d/train", encoding="sklearn.mlflow@3")
    return [
        make_run("load", {"raw": table("archive/clean")}, {"output": loaded}, started=1.0, ended=2.0),
        make_run("train", {"table": loaded}, {"output": model}, started=3.0, ended=9.0),
        make_run(
            "score", {"model": model, "table": loaded}, {"output": table("d/score")}, cache=CacheState.HIT, started=9.5
        ),
    ]


@pytest.fixture
def make_graph():
    """Make the graph of records, at most `collapse_above` alike side by side."""
    return lambda runs, collapse_above=3, pages=PageUrls(): build_graph("d", "r", runs, pages, collapse_above)  # noqa: B008
