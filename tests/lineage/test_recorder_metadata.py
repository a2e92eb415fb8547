"""Promises of `airflow_zen.log_metadata`: metadata of the step, its artifacts and its models, with or without MLflow."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

import airflow_zen
from airflow_zen import Output, ml_step
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.config.settings import open_stack
from airflow_zen.errors import MetadataError
from airflow_zen.lineage.recorder import MetadataCollector, collect_metadata
from airflow_zen.runs.step_run import StepRunId
from tests.harness import run_dag
from tests.servers.process import free_port


@pytest.fixture
def collector():
    return MetadataCollector(frozenset({"table"}), frozenset({"train", "test"}))


def test_facts_are_kept_by_subject(collector):
    """Facts about the step, an input and an output are separate; a later value replaces an earlier one."""
    with collect_metadata(collector):
        airflow_zen.log_metadata({"rows": 1, "source": "crm"})
        airflow_zen.log_metadata({"rows": 2})
        airflow_zen.log_metadata({"nulls": 3}, input="table")
        airflow_zen.log_metadata({"share": 0.8}, output="train")
    assert collector.facts == {
        "": {"rows": 2, "source": "crm"},
        "input:table": {"nulls": 3},
        "output:train": {"share": 0.8},
    }


def test_outside_a_step():
    """Outside a step it raises an error that names the remedy."""
    with pytest.raises(MetadataError, match="@ml_step"):
        airflow_zen.log_metadata({"a": 1})


@pytest.mark.parametrize(
    ("facts", "about", "says"),
    [
        ({"a": 1}, {"output": "tran"}, "'test', 'train'"),
        ({"a": 1}, {"input": "model"}, "'table'"),
        ({"zen.kind": "x"}, {}, "'zen.kind'"),
        ({"a": 1}, {"input": "table", "output": "train"}, "not both"),
    ],
)
def test_invalid_names_are_refused(collector, facts, about, says):
    """A name that is not an artifact of the step, and a reserved name, are refused; the error lists the artifacts."""
    with collect_metadata(collector), pytest.raises(MetadataError, match=says):
        airflow_zen.log_metadata(facts, **about)


def test_threads_of_the_step(collector):
    """A thread that user code started writes into the same collector."""
    with collect_metadata(collector), ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: airflow_zen.log_metadata({f"k{n}": n}), range(50)))
    assert len(collector.facts[""]) == 50


@ml_step
def split(rows: int) -> Output(train=list, test=list):
    airflow_zen.log_metadata({"rows": rows, "source": {"name": "crm", "day": 3}})
    airflow_zen.log_metadata({"share": 0.8}, output="train")
    return list(range(rows)), [rows]


@ml_step
def fails(table: list) -> int:
    airflow_zen.log_metadata({"bad_rows": len(table)}, input="table")
    raise ValueError("too bad")


def dag():
    from datetime import datetime

    from airflow.sdk import DAG

    with DAG("noted", schedule=None, start_date=datetime(2026, 1, 1)) as made:
        train, _ = split(8)
        fails(train)
    return made


@pytest.fixture
def record(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    return lambda task: open_stack().records.get(StepRunId("noted", "manual__1", task))


def test_facts_are_in_the_record_without_mlflow(record, monkeypatch):
    """While MLflow is unavailable the facts are in the step run record, also of a step that fails."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    run_dag(dag())
    assert record("split").metadata == {
        "": {"rows": 8, "source": {"name": "crm", "day": 3}},
        "output:train": {"share": 0.8},
    }
    assert record("fails").metadata == {"input:table": {"bad_rows": 8}}


@pytest.mark.server
def test_facts_are_shown_in_mlflow(record, server, client, monkeypatch):
    """Numbers are metrics of the run and everything else is a tag, under the name of the artifact."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    run_dag(dag())
    experiment = client.get_experiment_by_name("airflow/noted").experiment_id
    runs = {r.data.tags["zen.task_id"]: r.data for r in client.search_runs([experiment], "tags.`zen.kind` = 'step'")}
    metrics = {key: value for key, value in runs["split"].metrics.items() if not key.startswith(("zen.", "system/"))}
    assert metrics == {"rows": 8.0, "train.share": 0.8}
    assert (runs["split"].tags["source.name"], runs["split"].tags["source.day"]) == ("crm", "3")
    assert runs["fails"].metrics["table.bad_rows"] == 8.0


@pytest.mark.server
def test_facts_about_a_model_are_on_its_page(client, recorder, step, ended, transport, root, ref, dag_id):
    """Facts about a model are its metrics, linked to the table that was read, and its tags; a repeated call changes nothing."""
    from airflow_zen.artifacts.store import ArtifactStore

    store = ArtifactStore(root, transport)
    with store.upload_directory() as staging:
        (staging / "MLmodel").write_text(f"flavors: {{}}  # {dag_id}")
        model = store.put(
            staging, encoding="x.mlflow@1", type_name="x.M", libraries={}, summary={}, name=f"{dag_id}/fit"
        )
    opened = recorder.start(step("fit"))
    assert recorder.finish(
        ended(step("fit"), outputs={"output": model}, metadata={"output:output": {"loss": 0.1}}), opened
    )
    table = ref(f"{dag_id}/test")
    run = step("judge", inputs={"model": model, "table": table})
    opened = recorder.start(run)
    metadata = {"input:model": {"auc": 0.9, "judged by": {"whom": "us"}}}
    assert recorder.finish(ended(run, metadata=metadata), opened)
    (found,) = client.search_logged_models([client.get_experiment_by_name(f"airflow/{dag_id}").experiment_id])
    shown = {metric.key: (metric.value, metric.dataset_digest) for metric in found.metrics}
    assert shown == {"loss": (0.1, None), "auc": (0.9, table.digest[:16])}
    assert found.tags["judged by.whom"] == "us"


def test_values_that_are_not_json(collector):
    """Values that are not JSON are described, so that the record can always be written."""
    from airflow_zen.steps.arguments import describe_as_json

    with collect_metadata(collector):
        airflow_zen.log_metadata({"when": object, "ref": ArtifactRef("a" * 64, "u", "e@1", "t", 1)})
    assert json.loads(json.dumps(describe_as_json(collector.facts)))[""]["ref"] == "artifact aaaaaaaaaaaa"
