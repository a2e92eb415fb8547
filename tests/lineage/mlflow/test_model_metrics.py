"""Promises of `link_model_metrics`: a model's page shows the metrics about it."""

import pytest

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.lineage.graph.publish import GraphPublisher

pytestmark = pytest.mark.server


@pytest.fixture
def model(root, transport, dag_id):
    """Store two models of different content."""
    store = ArtifactStore(root, transport)

    def make(name):
        with store.upload_directory() as staging:
            (staging / "MLmodel").write_text(f"flavors: {{}}  # {dag_id}{name}")
            return store.put(
                staging, encoding="x.mlflow@1", type_name="x.M", libraries={}, summary={}, name=f"{dag_id}/{name}"
            )

    return make


@pytest.fixture
def keep(recorder, records, ended, client):
    def record(run, metrics=None, **facts):
        opened = recorder.start(run)
        for key, value in (metrics or {}).items():
            client.log_metric(opened.run_id, key, value)
        finished = ended(run, **facts)
        records.put(finished, recorder.finish(finished, opened))

    return record


@pytest.fixture
def shown(client, rest, records, transport, root, dag_id):
    """Publish twice, and give the metrics of each logged model with the dataset they are linked to."""

    def publish(run_id="manual__1"):
        for _ in range(2):
            GraphPublisher(rest, records, transport, root).publish(dag_id, run_id)
        models = client.search_logged_models([client.get_experiment_by_name(f"airflow/{dag_id}").experiment_id])
        return {m.name: [(x.key, x.value, x.dataset_digest) for x in m.metrics or ()] for m in models}

    return publish


def test_metrics_of_an_evaluation_are_on_the_model(keep, shown, step, model, ref, dag_id):
    """What user code logs in a step that reads one model and one table is on the model's page, linked to the table."""
    fitted, table = model("fit"), ref(f"{dag_id}/test")
    keep(step("fit"), outputs={"output": fitted})
    keep(step("judge", inputs={"model": fitted, "table": table}), metrics={"auc": 0.9})
    assert shown() == {"fit": [("auc", 0.9, table.digest[:16])]}


def test_metrics_that_user_code_linked_itself(client, keep, shown, step, model, ref, dag_id):
    """A metric that user code logged with the model's id stays as it is, and the others are linked."""
    fitted, table = model("fit"), ref(f"{dag_id}/test")
    keep(step("fit"), outputs={"output": fitted})
    keep(step("judge", inputs={"model": fitted, "table": table}), metrics={"auc": 0.9, "f1": 0.5})
    experiments = [client.get_experiment_by_name(f"airflow/{dag_id}").experiment_id]
    (run,) = client.search_runs(experiments, "tags.`zen.task_id` = 'judge'")
    (logged,) = client.search_logged_models(experiments)
    client.log_metric(run.info.run_id, "auc", 0.9, model_id=logged.model_id)
    assert sorted(shown()["fit"]) == [("auc", 0.9, None), ("f1", 0.5, table.digest[:16])]


def test_training_metrics_are_on_the_model(keep, shown, step, model):
    """What user code logs in a step that creates one model is on the model's page."""
    keep(step("fit"), outputs={"output": model("fit")}, metrics={"loss": 0.1})
    assert shown() == {"fit": [("loss", 0.1, None)]}


def test_a_model_that_another_step_registers(keep, shown, step, model, ref, client, dag_id):
    """The page of a registered version is that of the model of the step that trained it, with its metrics."""
    fitted, table = model("fit"), ref(f"{dag_id}/test")
    keep(step("fit"), outputs={"output": fitted})
    keep(step("judge", inputs={"model": fitted, "table": table}), metrics={"auc": 0.9})
    keep(step("register", inputs={"model": fitted}, model=f"best_{dag_id}"), outputs={"output": fitted})
    judged = [("auc", 0.9, table.digest[:16])]
    assert shown() == {"fit": judged}
    version = client.get_model_version(f"best_{dag_id}", "1")
    assert client.get_logged_model(version.source.removeprefix("models:/")).name == "fit"


def test_a_model_of_an_earlier_dag_run(keep, shown, step, model):
    """A model of another DAG run gets the metrics."""
    fitted = model("fit")
    keep(step("fit"), outputs={"output": fitted})
    keep(step("judge", "later", inputs={"model": fitted}), metrics={"auc": 0.8})
    assert shown("later") == {"fit": [("auc", 0.8, None)]}


def test_metrics_of_two_models_are_on_neither(keep, shown, step, model):
    """Metrics of a step that compares two models are on neither page."""
    one, two = model("one"), model("two")
    keep(step("fit"), outputs={"a": one, "b": two})
    keep(step("compare", inputs={"a": one, "b": two}), metrics={"difference": 0.1})
    assert shown() == {"one": [], "two": []}


def test_metrics_are_about_the_parameter_model_beside_a_baseline(keep, shown, step, model, dag_id):
    """Of a step that reads several models, the metrics are on the page of the one that is its parameter `model`."""
    fitted, other = model("fit"), model("other")
    keep(step("fit"), outputs={"output": fitted})
    keep(step("other"), outputs={"output": other})
    keep(step("judge", inputs={"model": fitted, "baseline": other}), metrics={"auc": 0.9})
    assert shown() == {"fit": [("auc", 0.9, None)], "other": []}
