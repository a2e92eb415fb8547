"""Promises of errors about values and declarations: what an error advises is written as it says, and runs."""

from typing import Annotated, Any, Literal, TypedDict

import numpy as np
import pandas as pd
import pandera.pandas as pp
import pytest
from pandera.typing import DataFrame as PanderaFrame
from sklearn.linear_model import LinearRegression

import airflow_zen
from airflow_zen import Artifact, Each, NotNull, SameSchema, ValidationReport, evaluate, ml_step, validate
from airflow_zen.errors import StepDefinitionError
from airflow_zen.runtimes import InProcess
from airflow_zen.validation.evaluation import evaluate_model
from airflow_zen.validation.pandera import Pandera
from airflow_zen.validation.validators import run_validator
from tests.harness import run_dag
from tests.operators.pipelines import frame, pipeline

pytestmark = pytest.mark.usefixtures("root")


class Scores(TypedDict):
    auc: float


def step_of(value: Any, annotation: Any) -> Any:
    """Return a step that returns a value under an annotation."""

    def step():
        return value

    step.__annotations__["return"] = annotation
    return ml_step(step)


def error_of(build: Any, task_id: str) -> str:
    run = run_dag(pipeline(build))
    assert run.states[task_id] == "failed"
    return str(run.task(task_id).error)


def value_of(build: Any, task_id: str) -> Any:
    run = run_dag(pipeline(build))
    assert run.states[task_id] == "success", run.task(task_id).error
    return airflow_zen.load(run.xcom(task_id))


OUTPUTS = {
    "class": (pd.DataFrame, [1], pd.DataFrame({"a": [1]}), list[int]),
    "element": (list[int], [1, "2"], [1, 2], list[int | str]),
    "literal": (Literal["a", "b"], "c", "a", str),
    "union": (int | None, "1", 1, int | str | None),
    "length of a tuple": (tuple[int, int], (1, 2, 3), (1, 2), tuple[int, ...]),
    "keys of a dict": (Scores, {"rmse": 0.5}, {"auc": 0.5}, dict[str, float]),
    "dtype": (np.ndarray[Any, np.dtype[np.float64]], np.ones(2, int), np.ones(2), np.ndarray),
}


@pytest.mark.parametrize(("declared", "wrong", "right", "corrected"), OUTPUTS.values(), ids=OUTPUTS.keys())
def test_an_output_of_another_type(declared, wrong, right, corrected):
    """A value of another type than declared fails the step; the declared type, and a corrected annotation, are stored."""
    # As an element of a tuple is an output of its own, the value is in a list.
    advice = "Return the declared type, or correct the annotation."
    assert advice in error_of(step_of([wrong], list[declared]), "step")
    for value, annotation in ((right, declared), (wrong, corrected)):
        np.testing.assert_equal(np.asarray(value_of(step_of([value], list[annotation]), "step")[0]), np.asarray(value))


def test_an_argument_of_another_type():
    """A number that is not the declared one fails the step; a value of the type, and the type that is named, run."""

    @ml_step
    def grow(depth: int) -> float:
        return depth * 2

    @ml_step
    def widened(depth: float) -> float:
        return depth * 2

    assert "Pass a value of that type, or declare float." in error_of(lambda: grow(3.5), "grow")
    assert value_of(lambda: grow(3), "grow") == 6.0
    assert value_of(lambda: widened(3.5), "widened") == 7.0


class Positive(pp.DataFrameModel):
    a: int = pp.Field(ge=0)


def test_a_frame_that_does_not_conform():
    """Rows that fail a declared schema fail the step; fixed rows are stored, and `validate` reports them and may go on."""

    @ml_step
    def checked(low: int) -> PanderaFrame[Positive]:
        return pd.DataFrame({"a": [low, 1]})

    @ml_step
    def unchecked() -> pd.DataFrame:
        return pd.DataFrame({"a": [-1, 1]})

    assert "step of their own, validate(…, Pandera(Positive)), which goes on after" in error_of(
        lambda: checked(-1), "checked"
    )
    assert value_of(lambda: checked(0), "checked")["a"].tolist() == [0, 1]
    report = value_of(lambda: validate(unchecked(), Pandera(Positive), on_failure="warn"), "validate_unchecked")
    assert not report.passed


def test_each_around_what_is_no_list():
    """A marked list that the function returns as something else fails the step, and a list is stored."""
    annotation = Annotated[list[int], Each]
    assert "is marked Each, but the function returned dict. Return a list." in error_of(
        step_of({"a": 1}, annotation), "step"
    )
    assert run_dag(pipeline(step_of([1, 2], annotation))).states == {"step": "success"}


def test_what_is_validated():
    """A value at hand is refused by `validate`; by `run_validator`, as a step's output, and as a version it is checked."""
    table = pd.DataFrame({"a": [1]})

    @ml_step
    def made() -> Annotated[pd.DataFrame, Artifact("features")]:
        return table

    with pytest.raises(
        StepDefinitionError, match=r"(?s)Artifact\('features'\)\.latest\(\).*validation\.validators\.run_validator"
    ):
        pipeline(lambda: validate(table, NotNull("a")))
    assert run_validator(NotNull("a"), table).passed
    assert value_of(lambda: validate(made(), NotNull("a")), "validate_made").passed
    run = run_dag(pipeline(lambda: validate(Artifact("features").latest(), NotNull("a"))))
    assert set(run.states.values()) == {"success"}
    with pytest.raises(
        StepDefinitionError, match=r"Write validate\(table, …, reference=Artifact\('features'\)\.latest\(\)\)"
    ):
        pipeline(lambda: validate(made(), SameSchema()))
    run = run_dag(pipeline(lambda: validate(made(), SameSchema(), reference=Artifact("features").latest())))
    assert set(run.states.values()) == {"success"}


def test_what_is_evaluated():
    """A model at hand is refused by `evaluate`, and evaluated by the function that the error names."""
    table = pd.DataFrame({"x": range(8), "y": range(8)})
    model = LinearRegression().fit(table[["x"]], table["y"])
    with pytest.raises(StepDefinitionError, match=r"airflow_zen\.validation\.evaluation\.evaluate_model"):
        pipeline(lambda: evaluate(model, frame(3), "y"))
    assert evaluate_model(model, table, "y", resamples=200).metrics["r2"] > 0.99


def few(table: pd.DataFrame) -> ValidationReport:
    return ValidationReport("few", [airflow_zen.Check(name="few", passed=len(table) < 10)])


def test_an_own_validator_elsewhere():
    """A function that validates is refused in another runtime, and a step that returns the report runs in it."""
    with pytest.raises(StepDefinitionError, match=r"write a step that returns a ValidationReport: @ml_step\(runtime="):
        pipeline(lambda: validate(frame(3), few, runtime="Virtualenv()"))
    assert value_of(lambda: ml_step(runtime=InProcess())(few)(frame(3)), "few").passed
