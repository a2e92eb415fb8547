"""Promises of `evaluate` in Airflow's real task runner: the report, the baseline, and what a failure does."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.linear_model import LinearRegression

from airflow_zen import (
    Artifact,
    EvaluateOperator,
    EvaluationReport,
    Threshold,
    ValidationReport,
    evaluate,
    load,
    ml_step,
)
from airflow_zen.config.settings import open_stack
from airflow_zen.errors import StepDefinitionError, ValidationDefinitionError
from airflow_zen.planning.plan import Plan, PlannedDagRun
from airflow_zen.runs.step_run import StepRunId
from airflow_zen.runtimes import Python
from tests.airflow_version import AIRFLOW_VERSION, DagSerialization
from tests.calls import record_call, recorded_calls
from tests.harness import NOW, run_dag
from tests.operators.pipelines import pipeline

pytestmark = pytest.mark.usefixtures("root")


def flights() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    x = generator.normal(size=300)
    return pd.DataFrame({"x": x, "noise": generator.normal(size=300), "delay": 2 * x + generator.normal(size=300)})


@ml_step
def table() -> pd.DataFrame:
    return flights()


@ml_step
def fit(columns: list[str]) -> Annotated[LinearRegression, Artifact("regressor")]:
    frame = flights()
    return LinearRegression().fit(frame[columns], frame["delay"])


def not_constant(model: Any, frame: pd.DataFrame) -> bool:
    record_call("not_constant")
    return bool(model.predict(frame[model.feature_names_in_]).std() > 0)


def test_report_is_the_output_of_the_step():
    """The report is an artifact that a step takes as a `ValidationReport`, and its numbers are metrics of the run."""

    @ml_step
    def gate(report: ValidationReport) -> bool:
        return report.passed and report.metrics["r2"] > 0.5

    run = run_dag(pipeline(lambda: gate(evaluate(fit(["x"]), table(), "delay", slices=["noise"]))))
    assert set(run.states.values()) == {"success"}
    assert load(run.xcom("gate")) is True
    report = load(run.xcom("evaluate_fit"))
    assert (type(report), report.task, len(report.slices)) == (EvaluationReport, "regression", 4)
    record = open_stack().records.get(StepRunId("d", "manual__1", "evaluate_fit"))
    assert record.metadata[""]["r2"] == report.metrics["r2"]


def test_failed_threshold_fails_the_task():
    """A threshold that is not reached fails the task; the report is kept."""
    run = run_dag(pipeline(lambda: evaluate(fit(["x"]), table(), "delay", thresholds={"r2": 0.99})))
    assert run.states["evaluate_fit"] == "failed"
    assert "threshold(r2)" in str(run.task("evaluate_fit").error)
    assert [check.title for check in load(run.xcom("evaluate_fit")).failures] == ["threshold(r2)"]


def test_evaluating_the_same_bytes_again_is_a_look_up():
    """The same model, table and options are not evaluated again, and functions are called once."""
    for run_id in ("r1", "r2"):
        run = run_dag(pipeline(lambda: evaluate(fit(["x"]), table(), "delay", checks=[not_constant])), run_id=run_id)
    assert run.xcom("evaluate_fit")["cached"] is True
    assert recorded_calls() == ["not_constant"]


def test_baseline_is_an_artifact_of_a_tag():
    """A tagged version is looked up when the task runs, is an input of the step, and does not have to exist."""

    def build(columns: list[str]):
        return pipeline(
            lambda: evaluate(fit(columns), table(), "delay", baseline=Artifact("regressor").version("champion"))
        )

    first = run_dag(build(["x"]), run_id="r1")
    assert load(first.xcom("evaluate_fit")).check("baseline").observed == "no baseline"
    version = open_stack().names.get("regressor")
    open_stack().names.tag("regressor", version.version, "champion")
    second = run_dag(build(["noise"]), run_id="r2")
    assert second.states["evaluate_fit"] == "failed"
    report = load(second.xcom("evaluate_fit"))
    assert {check.title for check in report.failures} == {"not_worse(rmse)", "not_worse(mae)", "not_worse(r2)"}
    record = open_stack().records.get(StepRunId("d", "r2", "evaluate_fit"))
    assert record.inputs["baseline"].digest == version.ref.digest


def test_plan_looks_up_the_baseline():
    """A plan knows that the evaluation against the same baseline is reused, and that another one is computed."""
    options = {"baseline": Artifact("regressor").version("champion"), "max_bytes": 10**6}
    built = pipeline(lambda: evaluate(fit(["x"]), table(), "delay", **options))
    run_dag(built, run_id="r1")

    def decision() -> str:
        steps = Plan(built, PlannedDagRun({}, NOW, (NOW, NOW), NOW, None)).steps()
        return next(str(step.decision) for step in steps if step.task_id == "evaluate_fit")

    assert decision() == "hit"
    open_stack().names.tag("regressor", "latest", "champion")
    assert decision() == "miss"


def test_alias_without_a_registry_has_a_way_out():
    """A registered model without MLflow is an error that names both ways out."""
    run = run_dag(pipeline(lambda: evaluate(fit(["x"]), table(), "delay", baseline="flight@champion")))
    error = str(run.task("evaluate_fit").error)
    assert "mlflow_tracking_uri" in error
    assert "version('champion')" in error


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": 3}, StepDefinitionError, "model=…"),
        ({"table": 3}, StepDefinitionError, "table=…"),
        ({"baseline": "champion"}, StepDefinitionError, "name@alias"),
        ({"baseline": LinearRegression()}, StepDefinitionError, "name@alias"),
        ({"task": "clustering"}, StepDefinitionError, "clustering"),
        ({"groups": "x"}, StepDefinitionError, "task='ranking'"),
        ({"sample": -1}, StepDefinitionError, "number of rows"),
        ({"resamples": 3}, StepDefinitionError, "at least 100"),
        ({"max_bytes": 1.5}, StepDefinitionError, "number of bytes"),
        ({"max_latency": 0}, StepDefinitionError, "number of seconds"),
        ({"thresholds": {"r2": "0.9"}}, ValidationDefinitionError, "Threshold"),
        ({"on_failure": "fial"}, ValidationDefinitionError, "'fial'"),
    ],
)
def test_wrong_arguments_fail_when_the_dag_is_parsed(arguments, error, message):
    """What cannot be evaluated is refused where it is written, with the way out."""
    with pytest.raises(error, match=message):
        pipeline(lambda: evaluate(**{"model": fit(["x"]), "table": table(), "target": "delay", **arguments}))


def test_mapped_operator_evaluates_each_model():
    """A mapped operator evaluates one model for each task."""

    def build():
        EvaluateOperator.partial(task_id="v", table=table(), target="delay", metrics=["r2"]).expand(
            model_to_evaluate=fit.expand(columns=[["x"], ["noise"]])
        )

    run = run_dag(pipeline(build))
    found = [load(run.xcom("v", map_index=at)).metrics["r2"] for at in range(2)]
    assert found[0] > 0.5 > found[1]


@pytest.mark.skipif(AIRFLOW_VERSION < (3, 2), reason="Airflow 3.1 serializes a function in a list by its address")
def test_serialized_dag_is_the_same_each_time():
    """The DAG with an evaluation serializes to the same document at each parse."""
    made = [
        DagSerialization.to_dict(
            pipeline(lambda: evaluate(fit(["x"]), table(), "delay", thresholds={"r2": 0.5}, checks=[not_constant]))
        )
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert " at 0x" not in str(made[0])


def test_size_and_latency_have_limits_and_a_large_table_is_sampled():
    """The size is that of the model's artifact; a model that is too large or too slow fails; a sample is reported."""
    run = run_dag(pipeline(lambda: evaluate(fit(["x"]), table(), "delay", max_bytes=100, max_latency=60, sample=50)))
    report = load(run.xcom("evaluate_fit"))
    assert [check.title for check in report.failures] == ["size"]
    assert (report.rows, report.sampled) == (len(flights()), 50)
    assert report.check("size").value == run.xcom("fit")["size"]
    assert 0 < report.metrics["latency.p50"] <= report.metrics["latency.p95"] < 60


def test_evaluation_runs_in_another_runtime_on_a_table_of_polars():
    """The report of another process, and of a table of Polars, is that of the task's own process and of pandas."""

    @ml_step
    def polars_table() -> pl.DataFrame:
        return pl.from_pandas(flights())

    def build():
        options = {"thresholds": {"r2": Threshold(limit=0.5)}, "slices": ["noise"], "baseline": fit(["noise"])}
        model = fit(["x"])
        evaluate(model, table(), "delay", task_id="here", **options)
        evaluate(model, polars_table(), "delay", task_id="there", runtime=Python(sys.executable), **options)

    run = run_dag(pipeline(build))
    assert set(run.states.values()) == {"success"}
    assert load(run.xcom("here")) == load(run.xcom("there"))
