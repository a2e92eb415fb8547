"""Promises of the queries of `airflow_zen.lineage`."""

import pytest

from airflow_zen import lineage
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.errors import LineageNotFound
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId
from tests.advice import advice_of

pytestmark = pytest.mark.server


@pytest.fixture
def model(root, transport, dag_id):
    store = ArtifactStore(root, transport)
    with store.upload_directory() as staging:
        (staging / "MLmodel").write_text(f"flavors: {{}}  # {dag_id}")
        return store.put(
            staging, encoding="x.mlflow@1", type_name="x.M", libraries={}, summary={}, name=f"{dag_id}/fit"
        )


@pytest.fixture
def history(recorder, ended, ref, model, dag_id):
    """Two DAGs: the archive cleans raw data, the other trains on it, twice, the second time from the cache."""
    archive = f"archive_{dag_id}"
    raw, clean, table = ref(f"{archive}/load"), ref(f"{archive}/clean"), ref(f"{dag_id}/features")

    def did(dag, run_id, task, started, inputs=(), outputs=(), **facts):
        run = StepRun(StepRunId(dag, run_id, task), started=10 * started, inputs=dict(inputs), **facts)
        opened = recorder.start(run)
        assert recorder.finish(ended(run, outputs=dict(outputs)), opened)
        return opened.run_id

    ids = {
        "load": did(archive, "r", "load", 1.0, (), {"o": raw}),
        "clean": did(archive, "r", "clean", 2.0, {"raw": raw}, {"o": clean}),
        "features": did(dag_id, "one", "features", 3.0, {"t": clean}, {"o": table}),
        "fit": did(dag_id, "one", "fit", 4.0, {"t": table}, {"o": model}, model=dag_id),
        "cached": did(dag_id, "two", "features", 5.0, {"t": clean}, {"o": table}, cache=CacheState.HIT, origin="o"),
        "other": did(dag_id, "two", "other", 6.0, {"t": clean}),
    }
    return ids | {f"artifact {name}": ref.digest for name, ref in {"raw": raw, "clean": clean, "table": table}.items()}


def test_runs_that_read(history, rest):
    """All runs that consumed exactly this content are found, over all DAGs, latest first."""
    found = lineage.runs_that_read(history["artifact clean"], rest)
    assert [run.run_id for run in found] == [history["other"], history["cached"], history["features"]]
    assert lineage.runs_that_read("0" * 64, rest) == []


def test_runs_that_made(history, rest):
    """Only the run that computed the content is returned, not those that reused or read it."""
    (made,) = lineage.runs_that_made(history["artifact table"], rest)
    assert (made.run_id, made.task_id) == (history["features"], "features")
    assert (made.dag_run_id, made.state, made.cached) == ("one", "FINISHED", False)


@pytest.mark.parametrize("form", ["models:/{name}/1", "models:/{name}@best", "models:/{id}"])
def test_which_run_made_this_model(history, rest, client, dag_id, form):
    """A registered version, an alias and a logged model lead to the run, and its inputs are the data."""
    client.set_registered_model_alias(dag_id, "best", "1")
    (logged,) = client.search_logged_models([client.get_experiment_by_name(f"airflow/{dag_id}").experiment_id])
    run = lineage.run_of_model(form.format(name=dag_id, id=logged.model_id), rest)
    assert run.run_id == history["fit"]
    assert [artifact.digest for artifact in run.inputs] == [history["artifact table"][:16]]


def test_from_a_model_to_the_raw_data(history, rest, dag_id):
    """The ancestry of a version crosses two DAGs to the raw data, each run once."""
    ancestry = lineage.ancestry_of(f"models:/{dag_id}/1", rest)
    assert [run.run_id for run in ancestry.runs] == [history[task] for task in ("fit", "features", "clean", "load")]
    assert [artifact.digest for artifact in ancestry.raw] == [history["artifact raw"][:16]]


def test_a_server_may_be_named_by_its_address(history, server, monkeypatch):
    """A server without credentials may be given by its address, or by the variable that the error names."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (variable,) = advice_of(
        lambda: lineage.runs_that_made(history["artifact raw"]), r"Pass its address, or set (MLFLOW_TRACKING_URI)\."
    )
    assert lineage.runs_that_made(history["artifact raw"], server.uri)[0].task_id == "load"
    monkeypatch.setenv(variable, server.uri)
    assert lineage.runs_that_made(history["artifact raw"])[0].task_id == "load"


def test_a_model_without_a_run(rest, client, dag_id):
    """A version without a run is an error that says so."""
    client.create_registered_model(dag_id)
    client.create_model_version(dag_id, "s3://elsewhere/model")
    with pytest.raises(LineageNotFound, match="registered by hand"):
        lineage.run_of_model(f"models:/{dag_id}/1", rest)


def test_more_inputs_than_a_tag_holds(recorder, ended, ref, rest, dag_id):
    """A run with more inputs than its tag holds is found by each of them."""
    parts = [ref(f"{dag_id}/part_{'x' * 60}_{n}") for n in range(300)]
    run = StepRun(StepRunId(dag_id, "r", "join"), started=1.0, inputs={f"p[{n}]": part for n, part in enumerate(parts)})
    opened = recorder.start(run)
    assert recorder.finish(ended(run), opened)
    for part in (parts[0], parts[-1]):
        (found,) = lineage.runs_that_read(part.digest, rest)
        assert found.run_id == opened.run_id
        assert len(found.inputs) == 300
    assert lineage.runs_that_made(parts[-1].digest, rest) == []
