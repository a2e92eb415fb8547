"""Promises of `airflow_zen.lineage.mlflow.model_versions`: what a step registers, on a real MLflow."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow.utils.file_utils import local_file_uri_to_path
from msgspec.structs import replace

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.runs.step_run import CacheState, StepState

pytestmark = pytest.mark.server


@pytest.fixture
def new_model(root, transport, dag_id):
    """Store a model of some content; return its ref."""
    store = ArtifactStore(root, transport)

    def make(content):
        with store.upload_directory() as directory:
            (directory / "MLmodel").write_text(f"flavors: {{}}\n# {content}\n")
            options = {"encoding": "sklearn.mlflow@3", "type_name": "sklearn.linear_model.LinearRegression"}
            return store.put(directory, libraries={}, summary={}, name=f"{dag_id}/train", **options)

    return make


@pytest.fixture
def versions(client, dag_id):
    """Return the numbers of the versions of the model, newest first, and the version of its challenger."""

    def list_versions():
        found = sorted(int(version.version) for version in client.search_model_versions(f"name='{dag_id}'"))
        return found[::-1], int(client.get_model_version_by_alias(dag_id, "challenger").version)

    return list_versions


def model_ids(client, run_id):
    return [output.model_id for output in client.get_run(run_id).outputs.model_outputs]


def test_a_version_for_each_content(client, record_step, step, new_model, versions, dag_id):
    """Content that a model has already gets no version; its run shows the model of that version, which is challenger."""
    first, second = new_model("a"), new_model("b")
    runs = [
        record_step(step(run_id=f"r{number}", model=dag_id), outputs={"output": ref})
        for number, ref in enumerate((first, first, second))
    ]
    assert model_ids(client, runs[0]) == model_ids(client, runs[1]) != model_ids(client, runs[2])
    assert versions() == ([2, 1], 2)
    record_step(step(run_id="r4", model=dag_id), outputs={"output": first})
    assert versions() == ([2, 1], 1)


def test_version_of_another_steps_model(client, record_step, step, new_model, versions, dag_id):
    """A step that registers what it read makes a version of the model of the step that trained it, with its parameters."""
    trained = new_model("a")
    run_id = record_step(step(parameters={"depth": 8}), outputs={"output": trained})
    registering = step("register", model=dag_id, inputs={"model": trained})
    registered = record_step(registering, outputs={"output": trained})
    version = client.get_model_version(dag_id, "1")
    assert version.run_id == run_id
    assert version.source == f"models:/{model_ids(client, run_id)[0]}"
    assert model_ids(client, registered) == model_ids(client, run_id)
    assert client.get_logged_model(model_ids(client, run_id)[0]).params == {"depth": "8"}
    assert version.tags["zen.task_id"] == "train"
    assert version.tags["zen.registered_by"] == str(registering.id)
    assert versions() == ([1], 1)


def test_reused_result_is_registered_under_a_new_name(client, record_step, step, new_model, versions, dag_id):
    """A step whose cached model has no version under its name, because it was declared later, gets one."""
    model = new_model("a")
    run_id = record_step(step(), outputs={"output": model})
    reused = {"cache": CacheState.HIT, "origin": "elsewhere", "model": dag_id}
    hit = step(run_id="r2", outputs={"output": model}, **reused)
    assert model_ids(client, record_step(hit, outputs={"output": model})) == model_ids(client, run_id)
    assert versions() == ([1], 1)
    foreign = new_model("never seen by this MLflow")
    record_step(step(run_id="r3", **reused), outputs={"output": foreign})
    assert versions() == ([2, 1], 2)


def test_concurrent_steps_register_one_version(client, new_recorder, step, ended, new_model, versions, dag_id):
    """Of steps that register the same content at the same time, the version of one remains, and all runs finish."""
    model = new_model("a")

    def record(number):
        recorder, run = new_recorder(), step(run_id=f"r{number}", model=dag_id)
        opened = recorder.start(run)
        return recorder.finish(ended(run, outputs={"output": model}), opened)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(record, range(4)))
    numbers, challenger = versions()
    assert numbers == [challenger]


def test_late_delivery_moves_no_alias_back(new_recorder, record_step, step, new_model, versions, dag_id):
    """What is delivered after an outage becomes a version, once, and the alias stays at what was registered since."""
    old, new = new_model("old"), new_model("new")
    late = replace(step(run_id="r1", model=dag_id), state=StepState.FINISHED, ended=1_700_000_001.0)
    late = replace(late, outputs={"output": old})
    new_recorder().replay(late)
    record_step(step(run_id="r2", model=dag_id), outputs={"output": new})
    new_recorder().replay(late)
    assert versions() == ([2, 1], 2)


def test_options_of_the_registered_model(client, record_step, step, new_model, dag_id):
    """Tags are those of the version, the description is the model's, and signature and example can be left out."""
    described = {"output": {"columns": [{"name": "x", "type": "float64"}], "rows": [[1.0]]}}
    first = {"tags": {"team": "ops"}, "description": "The first text.", "input_example": False}
    run_id = record_step(
        step(model=dag_id, registration=first, model_inputs=described), outputs={"output": new_model("a")}
    )
    files = {file.path for file in client.list_logged_model_artifacts(model_ids(client, run_id)[0])}
    assert files == {"MLmodel"}
    assert client.get_model_version(dag_id, "1").tags["team"] == "ops"
    second = {"description": "The second text.", "signature": False}
    record_step(
        step(run_id="r2", model=dag_id, registration=second, model_inputs=described), outputs={"output": new_model("b")}
    )
    assert client.get_registered_model(dag_id).description == "The second text."
    texts = []
    for number in ("1", "2"):
        source = client.get_model_version(dag_id, number).source.removeprefix("models:/")
        location = local_file_uri_to_path(client.get_logged_model(source).artifact_location)
        texts.append(Path(location, "MLmodel").read_text())
    assert ["signature:" in text for text in texts] == [True, False]
