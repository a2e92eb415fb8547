"""Promises of registered models as arguments of steps, on a real MLflow."""

import uuid
from typing import Annotated, Any

import mlflow
import pytest
from sklearn.linear_model import LinearRegression

from airflow_zen import Model, load, ml_step
from airflow_zen.config.settings import open_stack
from airflow_zen.errors import LineageNotFound
from airflow_zen.runs.step_run import StepRunId
from tests.harness import run_dag
from tests.operators.pipelines import pipeline

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("root")]

ROWS = [[0.0], [1.0], [2.0]]


@pytest.fixture
def name(server, monkeypatch):
    """A registered model of the test's own, which is also the id of its DAG."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    return f"line_{uuid.uuid4().hex[:8]}"


def training(name: str, slope: float, **options: Any) -> Any:
    @ml_step(model=Model(name, **options))
    def fit(slope: float) -> LinearRegression:
        return LinearRegression().fit(ROWS, [slope * x for (x,) in ROWS])

    return pipeline(lambda: fit(slope), dag_id=name)


def scoring(name: str, *given: Any) -> Any:
    @ml_step
    def score(model: Annotated[LinearRegression, Model(f"{name}@champion")]) -> float:
        return round(float(model.predict([[1.0]])[0]), 6)

    return pipeline(lambda: score(*given), dag_id=f"{name}_scores")


def test_model_is_an_argument_by_its_alias(name, server):
    """A parameter's model and a passed one are looked up when the step runs, keyed by content and read in lineage."""
    for number, slope in enumerate((2.0, 3.0)):
        assert set(run_dag(training(name, slope), run_id=f"fit{number}").states.values()) == {"success"}
    client = mlflow.MlflowClient(server.uri)
    client.set_registered_model_alias(name, "champion", "1")

    assert load(run_dag(scoring(name), run_id="declared").xcom("score")) == 2.0
    passed = run_dag(scoring(name, Model(f"{name}@champion")), run_id="passed")
    assert passed.xcom("score")["cached"] is True
    for selected in (Model(name).version(2), Model(name).latest(), Model(f"{name}/2")):
        assert load(run_dag(scoring(name, selected), run_id="other").xcom("score")) == 3.0
    client.set_registered_model_alias(name, "champion", "2")
    assert load(run_dag(scoring(name), run_id="moved").xcom("score")) == 3.0
    assert load(Model(f"{name}@champion")).coef_[0] == pytest.approx(3.0)

    record = open_stack().records.get(StepRunId(f"{name}_scores", "moved", "score"))
    assert record.inputs["model"].name == f"{name}/fit"
    assert record.selected == {"model": f"{name}@champion, version 2"}
    (version,) = client.search_model_versions(f"name='{name}' and version_number = 2")
    experiment = client.get_experiment_by_name(f"airflow/{name}_scores").experiment_id
    (read,) = client.search_runs([experiment], "tags.`zen.run_id` = 'moved' and tags.`zen.task_id` = 'score'")
    assert read.data.tags["zen.selected.model"] == f"{name}@champion, version 2"
    consumed = client.get_run(read.info.run_id).inputs.model_inputs
    assert [f"models:/{model.model_id}" for model in consumed] == [version.source]


def test_missing_model_names_what_there_is(name, server):
    """A model, a version or an alias that does not exist is an error that says what exists and how to set it.

    The step run is FAILED in its record and in MLflow.
    """
    failed = run_dag(scoring(name)).task("score")
    assert "has no registered model" in str(failed.error)
    record = open_stack().records.get(StepRunId(f"{name}_scores", "manual__1", "score"))
    client = mlflow.MlflowClient(server.uri)
    experiment = client.get_experiment_by_name(f"airflow/{name}_scores").experiment_id
    (run,) = client.search_runs([experiment], "tags.`zen.task_id` = 'score'")
    assert (record.state.name, run.info.status) == ("FAILED", "FAILED")
    assert record.error == run.data.tags["zen.error"] == f"LineageNotFound: {failed.error}"
    run_dag(training(name, 2.0))
    assert f"airflow zen models promote {name} VERSION champion" in str(run_dag(scoring(name)).task("score").error)
    with pytest.raises(LineageNotFound, match="has no version '9'; it has 1"):
        load(Model(f"{name}/9"))


def test_step_cannot_be_mapped_over_one_model():
    """Mapping over the fields of a selector is refused where it is written."""

    @ml_step
    def score(model: Any) -> float:
        return 0.0

    with pytest.raises(TypeError, match="a version of one artifact"):
        pipeline(lambda: score.expand(model=Model("line").champion()))
