"""Promises of `predict`: tables, parts and models as steps."""

import re
import uuid
from pathlib import Path
from typing import Annotated

import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost
from pandas.testing import assert_frame_equal
from sklearn.linear_model import LinearRegression

from airflow_zen import Each, MLflowModel, load, ml_step, predict
from airflow_zen.config.settings import open_stack
from airflow_zen.errors import InputError, ModelNameError, StepDefinitionError
from airflow_zen.models.predict import predict_flavor
from airflow_zen.runs.step_run import StepRunId
from tests.harness import run_dag
from tests.operators.pipelines import pipeline

pytestmark = pytest.mark.usefixtures("root")

ROWS = 1000


def flights(begin: int, end: int) -> pd.DataFrame:
    label = pd.Index([f"f{at}" for at in range(begin, end)], name="flight")
    return pd.DataFrame({"x": np.arange(begin, end, dtype=float), "gate": np.arange(begin, end) % 7}, index=label)


@ml_step
def table(begin: int = 0, end: int = ROWS) -> pd.DataFrame:
    return flights(begin, end)


@ml_step
def halves() -> Annotated[list[pd.DataFrame], Each]:
    return [flights(0, 400), flights(400, ROWS)]


@ml_step
def fit() -> LinearRegression:
    frame = flights(0, ROWS)
    return LinearRegression().fit(frame[["x"]], 3 * frame["x"])


def predictions(build) -> pd.DataFrame:
    run = run_dag(pipeline(build))
    assert set(run.states.values()) == {"success"}
    return load(run.xcom("predict_fit"))


def test_one_table_whole_in_parts_and_in_lists_predicts_the_same():
    """A table, its parts, and the outputs of a mapped step give one table with each row's label, keys and prediction."""
    expected = flights(0, ROWS)[["gate"]].assign(prediction=3.0 * np.arange(ROWS))
    whole = predictions(lambda: predict(fit(), table(), keys="gate", batch_rows=300))
    assert_frame_equal(whole, expected)
    parts = predictions(lambda: predict(fit(), table(), keys=["gate"], parts=3))
    assert_frame_equal(parts, expected)
    mapped = predictions(
        lambda: predict(fit(), table.expand_kwargs([{"begin": 0, "end": 400}, {"begin": 400}]), keys=["gate"])
    )
    assert_frame_equal(mapped, expected)
    listed = predictions(lambda: predict(fit(), [table(0, 400), table(400, ROWS)], keys=["gate"]))
    assert_frame_equal(listed, expected)
    assert_frame_equal(predictions(lambda: predict(fit(), halves(), keys=["gate"])), expected)


@pytest.mark.server
def test_parts_are_predicted_by_one_version(server, monkeypatch):
    """When the alias moves between two parts, all parts have the version that it had at first."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    name = f"line_{uuid.uuid4().hex[:8]}"

    @ml_step(model=name)
    def train(slope: float) -> LinearRegression:
        frame = flights(0, ROWS)
        return LinearRegression().fit(frame[["x"]], slope * frame["x"])

    for slope in (1.0, 2.0):
        run_dag(pipeline(lambda slope=slope: train(slope), dag_id=name), run_id=str(slope))
    client = mlflow.MlflowClient(server.uri)
    client.set_registered_model_alias(name, "champion", "1")
    dag = pipeline(lambda: predict(f"{name}@champion", table(), parts=2, task_id="predict"), dag_id=f"{name}_predicts")
    run = run_dag(dag)
    assert load(run.xcom("predict"))["prediction"].to_numpy() == pytest.approx(np.arange(ROWS))
    client.set_registered_model_alias(name, "champion", "2")
    run.tasks = [task for task in run.tasks if task.task_id in ("table", "predict_versions")]
    again = run_dag(dag, earlier=run, try_number=2)
    assert again.xcom("predict_parts", map_index=1)["cached"] is True
    record = open_stack().records.get(StepRunId(f"{name}_predicts", "manual__1", "predict_parts", 1, 2))
    assert record.selected == {"model": f"{name}/1, version 1"}


@ml_step
def boost() -> xgboost.Booster:
    frame = flights(0, ROWS)
    return xgboost.train({"nthread": 1}, xgboost.DMatrix(frame[["x"]], frame["x"]), 3)


@ml_step
def fit_flavor() -> MLflowModel:
    mlflow.sklearn.save_model(LinearRegression().fit([[0.0], [1.0]], [0.0, 3.0]), "model", pip_requirements=[])
    return MLflowModel(Path("model"))


def test_models_of_other_interfaces_predict_with_their_flavor(tmp_path, monkeypatch):
    """A booster, and a model that only MLflow can load, predict as MLflow does; a booster gets the columns it names."""
    monkeypatch.chdir(tmp_path)
    run = run_dag(pipeline(lambda: predict(boost(), table(), keys=["gate"], parts=2)))
    booster, frame = load(run.xcom("boost")), flights(0, ROWS)
    expected = frame[["gate"]].assign(prediction=booster.predict(xgboost.DMatrix(frame[["x"]])))
    assert_frame_equal(load(run.xcom("predict_boost")), expected)
    run = run_dag(pipeline(lambda: predict(fit_flavor(), table(), features=["x"])), run_id="r2")
    assert load(run.xcom("predict_fit_flavor"))["prediction"].to_numpy() == pytest.approx(3.0 * np.arange(ROWS))


def test_model_without_a_flavor_that_predicts_is_refused(tmp_path):
    """An MLflow Model that MLflow cannot predict with is an error that names the remedy."""
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    with pytest.raises(InputError, match="Write method=function"):
        next(predict_flavor(tmp_path, iter([flights(0, 3)])))


def test_parts_wait_for_model_and_table():
    """The mapped tasks run after those that make the model and the table, or look them up."""
    dag = pipeline(lambda: predict(fit(), table(), parts=2))
    assert dag.get_task("predict_fit_parts").upstream_task_ids == {"fit", "table"}
    dag = pipeline(lambda: predict("line@champion", table(), parts=2))
    assert dag.get_task("predict_line_parts").upstream_task_ids == {"predict_line_versions", "table"}
    dag = pipeline(lambda: predict(fit(), halves()))
    assert dag.get_task("predict_fit_parts").upstream_task_ids == {"fit", "halves"}


def test_what_has_no_rows_has_no_parts():
    """Parts of a value without a number of rows are refused when the task runs; a table is divided."""

    @ml_step
    def listed() -> list[float]:
        return [1.0, 2.0]

    run = run_dag(pipeline(lambda: predict(fit(), listed(), parts=2)))
    assert re.search(r"Leave parts=… out, or pass a table of pandas, Polars or Arrow\.", str(run.tasks[-1].error))
    assert len(predictions(lambda: predict(fit(), table(), parts=2))) == ROWS


def test_equal_predictions_are_reused():
    """The same model and table are predicted once; another method is computed."""
    run_dag(pipeline(lambda: predict(fit(), table())))
    again = run_dag(pipeline(lambda: predict(fit(), table())), run_id="r2")
    assert again.xcom("predict_fit")["cached"] is True
    other = run_dag(pipeline(lambda: predict(fit(), table(), method=_doubled)), run_id="r3")
    assert load(other.xcom("predict_fit"))["prediction"].iloc[1] == pytest.approx(6.0)


def _doubled(model, frame):
    return 2 * model.predict(frame[["x"]])


@pytest.mark.parametrize(
    ("model", "options", "error"),
    [
        ("churn", {}, ModelNameError),
        (LinearRegression(), {}, StepDefinitionError),
        ("churn@champion", {"table": pd.DataFrame()}, StepDefinitionError),
        ("churn@champion", {"parts": 0}, StepDefinitionError),
        ("churn@champion", {"batch_rows": 1.5}, StepDefinitionError),
    ],
)
def test_wrong_arguments_fail_when_the_dag_is_parsed(model, options, error):
    """What cannot predict or be predicted is refused where it is written."""
    with pytest.raises(error):
        pipeline(lambda: predict(model, **{"table": table(), **options}))
