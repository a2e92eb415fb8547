"""Promises of `predict`: tables, parts and models as steps."""

from typing import Annotated

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from sklearn.linear_model import LinearRegression

from airflow_zen import Each, load, ml_step, predict
from airflow_zen.errors import ModelNameError, StepDefinitionError
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
