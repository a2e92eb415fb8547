"""Promises of `airflow_zen.lineage.mlflow.models`: a model is stored once, and MLflow can use it."""

import json
import platform
from pathlib import Path

import lightgbm
import mlflow
import numpy as np
import pandas as pd
import pytest
import sklearn
import xgboost
from mlflow.models.utils import load_serving_example
from mlflow.types.schema import AnyType, ColSpec, Schema
from mlflow.utils.file_utils import local_file_uri_to_path
from sklearn.linear_model import LinearRegression

from airflow_zen import MLflowModel
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.lineage.mlflow.models import signature_files
from airflow_zen.materializers.registry import default_registry
from airflow_zen.runs.step_run import CacheState, StepState

pytestmark = pytest.mark.server

FRAME = np.array([[1.0], [2.0], [3.0]])


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory):
    """A plain MLflow Model directory."""
    directory = tmp_path_factory.mktemp("model") / "model"
    fitted = LinearRegression().fit(FRAME, [2.0, 4.0, 6.0])
    mlflow.sklearn.save_model(fitted, directory, pip_requirements=["scikit-learn"])
    return directory


@pytest.fixture
def model(root, transport, model_directory, dag_id):
    """Return its ref, as the step that made it has it."""
    store = ArtifactStore(root, transport)
    with store.upload_directory() as staging:
        for path in model_directory.iterdir():
            (staging / path.name).write_bytes(path.read_bytes())
        return store.put(
            staging,
            encoding="sklearn.mlflow@3",
            type_name="sklearn.linear_model.LinearRegression",
            libraries={},
            summary={},
            name=f"{dag_id}/train",
        )


@pytest.fixture
def tracking(server, monkeypatch):
    """Point MLflow's client in this process at the server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)


def made(client, run_id):
    """Return the logged model that a run created."""
    (output,) = client.get_run(run_id).outputs.model_outputs
    return client.get_logged_model(output.model_id)


def test_a_model_is_a_logged_model_of_its_run(client, record_step, step, model, tracking):
    """A model output is a READY logged model with its source run, parameters and digest, and its files load."""
    run_id = record_step(step(parameters={"depth": 8}), outputs={"output": model})
    logged = made(client, run_id)
    assert (logged.source_run_id, logged.status, logged.name) == (run_id, "READY", "train")
    assert (logged.params, logged.tags["zen.digest"]) == ({"depth": "8"}, model.digest)
    assert client.get_run(run_id).inputs.dataset_inputs == []
    assert mlflow.pyfunc.load_model(f"models:/{logged.model_id}").predict(FRAME)[2] == pytest.approx(6)
    assert "MLmodel" in [f.path for f in client.list_logged_model_artifacts(logged.model_id)]


def test_the_files_of_a_model_are_stored_once(client, record_step, step, model):
    """On a local root the logged model's files are hard links to the artifact's."""
    logged = made(client, record_step(step(), outputs={"output": model}))
    filed = Path(local_file_uri_to_path(logged.artifact_location))
    names = {path.name for path in Path(model.uri).iterdir()} - {"manifest.json"}
    assert "MLmodel" in names
    assert [name for name in names if not (filed / name).samefile(Path(model.uri, name))] == []


def test_a_model_becomes_a_version(client, record_step, step, model, tracking, dag_id):
    """With `model` set, the output is a version of that registered model, linked to run and logged model."""
    run_id = record_step(step(model=dag_id), outputs={"output": model})
    version = client.get_model_version(dag_id, "1")
    assert (version.run_id, version.source) == (run_id, f"models:/{made(client, run_id).model_id}")
    client.set_registered_model_alias(dag_id, "champion", "1")
    assert mlflow.pyfunc.load_model(f"models:/{dag_id}@champion").predict(FRAME)[0] == pytest.approx(2)


def test_a_version_says_who_made_it(client, record_step, step, model, dag_id):
    """A version and its logged model have tags with DAG, DAG run, task, map index and digest of their maker."""
    run_id = record_step(step(map_index=3, model=dag_id), outputs={"output": model})
    for tags in (client.get_model_version(dag_id, "1").tags, made(client, run_id).tags):
        found = [tags[f"zen.{name}"] for name in ("dag_id", "run_id", "task_id", "map_index", "digest")]
        assert found == [dag_id, "manual__1", "train", "3", model.digest]


COLUMNS = [
    {"name": "it's", "type": "float64"},
    {"name": "ä", "type": "int64"},
    {"name": "when", "type": "datetime64[us]"},
    {"name": "kind", "type": "category"},
]


def test_a_version_has_a_signature_and_an_example(client, record_step, step, model, tracking, dag_id):
    """MLflow reads signature and input example of a version; the artifact has the same bytes as before."""
    before = {path.name: path.read_bytes() for path in Path(model.uri).iterdir()}
    rows = [[0.5, 1, "2026-01-01T00:00:00", "a"], [None, 2, "2026-01-02T00:00:00", "b"]]
    described = {"output": {"columns": COLUMNS, "rows": rows}}
    record_step(step(model=dag_id, model_inputs=described), outputs={"output": model})
    info = mlflow.models.get_model_info(f"models:/{dag_id}/1")
    assert [(column.name, str(column.type)) for column in info.signature.inputs] == [
        ("it's", "DataType.double"),
        ("ä", "DataType.long"),
        ("when", "DataType.datetime"),
        ("kind", "Any"),
    ]
    # MLServer loads no model whose signature has no outputs.
    assert info.signature.outputs == Schema([ColSpec(AnyType())])
    loaded = mlflow.pyfunc.load_model(f"models:/{dag_id}/1")
    example = loaded.input_example
    assert [*example.columns] == [column["name"] for column in COLUMNS]
    assert (example["it's"][0], example["ä"][1], example["kind"][1]) == (0.5, 2, "b")
    assert {path.name: path.read_bytes() for path in Path(model.uri).iterdir()} == before


def test_a_signature_without_rows(client, record_step, step, model, tracking, dag_id):
    """Without rows a version has a signature and no example, and predicts from a table with these columns."""
    described = {"output": {"columns": [{"name": "x", "type": "float64"}]}}
    record_step(step(model=dag_id, model_inputs=described), outputs={"output": model})
    loaded = mlflow.pyfunc.load_model(f"models:/{dag_id}/1")
    assert loaded.metadata.saved_input_example_info is None
    assert loaded.predict(pd.DataFrame({"x": [3.0], "more": ["y"]}))[0] == pytest.approx(6)
    with pytest.raises(mlflow.MlflowException, match="missing inputs"):
        loaded.predict(pd.DataFrame({"y": [3.0]}))


def test_a_signature_of_an_array(client, record_step, step, model, tracking, dag_id):
    """MLflow reads the tensor that a version takes, and the example, and predicts from it; another type is refused."""
    described = {"output": {"shape": [-1, 1], "dtype": "float64", "rows": [[1.5], [2.0]]}}
    record_step(step(model=dag_id, model_inputs=described), outputs={"output": model})
    info = mlflow.models.get_model_info(f"models:/{dag_id}/1")
    (taken,) = info.signature.inputs.inputs
    assert info.signature.outputs == Schema([ColSpec(AnyType())])
    assert (taken.type, taken.shape) == (np.dtype("float64"), (-1, 1))
    loaded = mlflow.pyfunc.load_model(f"models:/{dag_id}/1")
    np.testing.assert_array_equal(loaded.input_example, [[1.5], [2.0]])
    assert loaded.predict(loaded.input_example)[1] == pytest.approx(4)
    served = json.loads(load_serving_example(f"models:/{dag_id}/1"))
    assert served == {"inputs": [[1.5], [2.0]]}
    with pytest.raises(mlflow.MlflowException, match="dtype"):
        loaded.predict(np.array([["x"]]))


def test_a_signature_of_several_arrays(client, record_step, step, model, tracking, dag_id):
    """MLflow reads the named tensors that a version takes, and the example of each."""
    inputs = [{"name": name, "shape": [-1, 1], "dtype": "float64"} for name in ("a", "b")]
    described = {"output": {"inputs": inputs, "rows": {"a": [[1.5]], "b": [[2.0]]}}}
    record_step(step(model=dag_id, model_inputs=described), outputs={"output": model})
    info = mlflow.models.get_model_info(f"models:/{dag_id}/1")
    assert [(taken.name, taken.type, taken.shape) for taken in info.signature.inputs.inputs] == [
        (name, np.dtype("float64"), (-1, 1)) for name in ("a", "b")
    ]
    example = mlflow.pyfunc.load_model(f"models:/{dag_id}/1").input_example
    assert {name: array.tolist() for name, array in example.items()} == {"a": [[1.5]], "b": [[2.0]]}
    assert json.loads(load_serving_example(f"models:/{dag_id}/1")) == {"inputs": {"a": [[1.5]], "b": [[2.0]]}}


def test_a_signature_that_a_model_has_already():
    """A model that was saved with a signature keeps it."""
    assert signature_files("flavors: {}\nsignature:\n  inputs: '[]'\n", {"columns": COLUMNS}) == {}


def test_a_step_without_its_declared_model(client, record_step, step, dag_id, caplog):
    """A step that declares a model and returns none that MLflow can serve logs the remedy; its lineage is complete."""
    run_id = record_step(step(model=dag_id))
    assert client.search_model_versions(f"name = '{dag_id}'") == []
    assert f"{dag_id!r} has no new version" in caplog.text
    assert "MLflowModel(directory)" in caplog.text
    assert client.get_run(run_id).info.status == "FINISHED"


def xgboost_model(directory):
    """A model that XGBoost fitted."""
    return xgboost.XGBRegressor(n_estimators=3, n_jobs=1).fit(FRAME, [2.0, 4.0, 6.0])


def lightgbm_model(directory):
    """A model that LightGBM fitted."""
    options = {"n_estimators": 3, "min_child_samples": 1, "n_jobs": 1, "verbose": -1}
    return lightgbm.LGBMRegressor(**options).fit(FRAME, [2.0, 4.0, 6.0])


def directory_of_code(directory):
    """A directory of mlflow's own, with files in folders."""
    mlflow.pyfunc.save_model(directory, python_model=Mean(), pip_requirements=["mlflow"])
    (directory / "notes").mkdir()
    (directory / "notes" / "about.txt").write_text("a file in a folder")
    return MLflowModel(directory)


class Mean(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return np.asarray(model_input).mean(axis=1)


def stored(value, root, transport, dag_id):
    """Store a model; return its ref, and the summary that a step run has of it."""
    store = ArtifactStore(root, transport)
    with store.upload_directory() as staging:
        saved = default_registry().save(value, staging)
        facts = {"encoding": saved.encoding, "type_name": saved.type, "libraries": saved.libraries}
        ref = store.put(staging, **facts, summary=saved.summary, name=f"{dag_id}/train")
    return ref, {ref.digest: saved.summary}


def test_a_version_pins_its_environment(client, record_step, step, root, transport, tracking, dag_id):
    """A version has the versions that the model was made with, and a signature; the artifact names its libraries only."""
    ref, summaries = stored(LinearRegression().fit(FRAME, [2.0, 4.0, 6.0]), root, transport, dag_id)
    described = {"output": {"columns": [{"name": "x", "type": "float64"}]}}
    record_step(step(model=dag_id, model_inputs=described), outputs={"output": ref}, summaries=summaries)
    info = mlflow.models.get_model_info(f"models:/{dag_id}/1")
    assert info.mlflow_version == mlflow.__version__
    assert info.flavors["python_function"]["python_version"] == platform.python_version()
    assert info.flavors["sklearn"]["sklearn_version"] == sklearn.__version__
    assert [column.name for column in info.signature.inputs] == ["x"]
    pinned = Path(mlflow.pyfunc.get_model_dependencies(f"models:/{dag_id}/1")).read_text().split()
    assert f"scikit-learn=={sklearn.__version__}" in pinned
    assert all("==" in requirement for requirement in pinned)
    assert "==" not in Path(ref.uri, "requirements.txt").read_text()
    loaded = mlflow.pyfunc.load_model(f"models:/{dag_id}/1")
    assert loaded.predict(pd.DataFrame({"x": [3.0]}))[0] == pytest.approx(6)


@pytest.mark.parametrize("make", [xgboost_model, lightgbm_model, directory_of_code])
def test_a_stored_model_of_any_library_is_served_by_its_version(
    make, client, record_step, step, root, transport, tracking, dag_id, tmp_path
):
    """A stored MLflow Model is registered without change, and predicts the same from there."""
    value = make(tmp_path / "model")
    ref, summaries = stored(value, root, transport, dag_id)
    record_step(step(model=dag_id), outputs={"output": ref}, summaries=summaries)
    served = mlflow.pyfunc.load_model(f"models:/{dag_id}/1").predict(FRAME)
    expected = FRAME.mean(axis=1) if isinstance(value, MLflowModel) else value.predict(FRAME)
    np.testing.assert_array_equal(served, expected)


def test_a_consumer_names_the_model_of_this_dag_run(client, record_step, step, model):
    """A model input is the logged model of this DAG run, although others have the same content."""
    record_step(step(run_id="r1"), outputs={"output": model})
    producer = made(client, record_step(step(run_id="r2"), outputs={"output": model}))
    record_step(step(run_id="r3"), outputs={"output": model})
    consumer = client.get_run(record_step(step("evaluate", "r2", inputs={"model": model})))
    assert [found.model_id for found in consumer.inputs.model_inputs] == [producer.model_id]
    assert consumer.data.tags["zen.inputs"] == f"|{model.name}@{model.digest[:16]}|"


def test_a_consumer_in_another_dag(client, record_step, new_recorder, ended, step, model):
    """A model of another DAG is found by the artifact's name."""
    producer = made(client, record_step(step(), outputs={"output": model}))
    from msgspec.structs import replace

    other = step("evaluate", inputs={"model": model})
    other = replace(other, id=replace(other.id, dag_id=f"{other.id.dag_id}_scoring"))
    recorder = new_recorder()
    opened = recorder.start(other)
    assert recorder.finish(ended(other), opened)
    assert client.get_run(opened.run_id).inputs.model_inputs[0].model_id == producer.model_id


def test_a_hit_creates_no_model(client, recorder, record_step, step, ended, model, dag_id):
    """A reused model is attached to the run of the hit, and neither created nor registered again."""
    first = made(client, record_step(step(model=dag_id), outputs={"output": model}))
    hit = step(run_id="r2", cache=CacheState.HIT, origin=str(step().id), outputs={"output": model}, model=dag_id)
    opened = recorder.start(hit)
    assert recorder.finish(ended(hit), opened)
    assert made(client, opened.run_id).model_id == first.model_id
    assert len(client.search_model_versions(f"name='{dag_id}'")) == 1


def test_an_unknown_model_is_a_dataset(client, record_step, step, model):
    """A model that this MLflow does not have is listed as a dataset, so that it is not missing."""
    run = client.get_run(record_step(step("evaluate", inputs={"model": model})))
    assert [i.dataset.name for i in run.inputs.dataset_inputs] == [model.name]


def test_a_failed_step_creates_no_model(client, record_step, step):
    """A failed step has no outputs, and creates no model."""
    run = client.get_run(record_step(step(model="m"), state=StepState.FAILED))
    assert run.outputs is None or run.outputs.model_outputs == []


def test_files_go_through_the_proxy_of_an_older_experiment(client, record_step, step, model, tracking, dag_id):
    """In an experiment with files behind MLflow's artifact proxy, the model is uploaded there and loads."""
    client.create_experiment(f"airflow/{dag_id}")
    logged = made(client, record_step(step(), outputs={"output": model}))
    assert logged.artifact_location.startswith("mlflow-artifacts:")
    assert mlflow.pyfunc.load_model(f"models:/{logged.model_id}").predict(FRAME)[0] == pytest.approx(2)


def test_files_that_mlflow_keeps_elsewhere(client, record_step, step, model, dag_id, tmp_path, caplog):
    """In an experiment with files outside the artifact root, the step is recorded and the remedy is logged."""
    client.create_experiment(f"airflow/{dag_id}", artifact_location=str(tmp_path / "elsewhere"))
    record_step(step(), outputs={"output": model})
    assert "outside the artifact root" in caplog.text


def test_a_dag_with_a_name_in_another_script(client, server, transport, root, model, ended, tracking):
    """A model of a DAG whose name needs quoting in an address loads like any other."""
    from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
    from airflow_zen.lineage.mlflow.rest import MlflowRest
    from airflow_zen.lineage.mlflow.server import TrackingServer
    from airflow_zen.runs.step_run import StepRun, StepRunId

    recorder = MlflowRecorder(MlflowRest(TrackingServer(server.uri)), transport, root)
    run = StepRun(StepRunId(f"prévision_{model.name[4:12]}", "r", "train"), started=1.0)
    opened = recorder.start(run)
    assert recorder.finish(ended(run, outputs={"output": model}), opened)
    loaded = mlflow.pyfunc.load_model(f"models:/{made(client, opened.run_id).model_id}")
    assert loaded.predict(FRAME)[0] == pytest.approx(2)
