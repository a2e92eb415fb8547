"""Promises of `.partial` of our operators: what all instances share is upstream of them."""

import warnings

import pandas as pd
import pytest

from airflow_zen import (
    BatchPredictOperator,
    DeployModelOperator,
    EvaluateOperator,
    MLflowServing,
    MLStepOperator,
    Model,
    PromoteModelOperator,
    RowCountChange,
    ValidateOperator,
    load,
    ml_step,
)
from tests.harness import run_dag
from tests.operators.pipelines import pipeline

pytestmark = pytest.mark.usefixtures("root")

CANDIDATES = [Model("flight_delay").version(1), Model("flight_delay").version(2)]
CHANGE = RowCountChange()


@ml_step
def one() -> pd.DataFrame:
    return pd.DataFrame({"delay": range(2)})


@ml_step
def two() -> pd.DataFrame:
    return pd.DataFrame({"delay": range(9)})


def promote(**options):
    return PromoteModelOperator.partial(task_id="m", on_failure="warn", **options)


MAPPED = {
    "gate": lambda: promote(name="flight_delay", if_=one()).expand(candidate=CANDIDATES),
    "gates": lambda: promote(if_=[one(), two()]).expand(name=["a", "b"]),
    "candidate": lambda: promote(candidate=one()).expand(name=["a", "b"]),
    "reference": lambda: ValidateOperator.partial(
        task_id="m", validator=CHANGE, reference=one(), on_failure="warn"
    ).expand(table=[two()]),
    "table": lambda: ValidateOperator.partial(task_id="m", table=one(), reference=two()).expand(validator=[CHANGE]),
    "evaluated": lambda: EvaluateOperator.partial(task_id="m", model_to_evaluate=one(), table=two()).expand(
        target=["a"]
    ),
    "baseline": lambda: EvaluateOperator.partial(task_id="m", target="a", table=one(), baseline=two()).expand(
        model_to_evaluate=CANDIDATES
    ),
    "predictor": lambda: BatchPredictOperator.partial(task_id="m", predictor=one(), table=two()).expand(part=[0]),
    "deployed": lambda: DeployModelOperator.partial(task_id="m", to=MLflowServing(), model_to_deploy=one()).expand(
        deployment=["a", "b"]
    ),
    "rows": lambda: DeployModelOperator.partial(task_id="m", to=MLflowServing(), rows=one()).expand(
        model_to_deploy=CANDIDATES
    ),
    "step": lambda: MLStepOperator.partial(task_id="m", python_callable=len, op_args=[one()]).expand(op_kwargs=[{}]),
}


@pytest.mark.parametrize("name", MAPPED)
def test_what_instances_share_is_upstream_of_them(name):
    """The outputs of steps in `.partial(…)` are upstream of the mapped task, in each operator, and in lists."""
    with warnings.catch_warnings():
        # Airflow's of a task that is never mapped would be wrong.
        warnings.simplefilter("error")
        dag = pipeline(MAPPED[name])
    assert dag.get_task("m").upstream_task_ids == {*dag.task_ids} - {"m"} != set()


def test_instances_get_the_shared_artifact():
    """Each instance of a mapped validation compares its table with the one reference."""
    run = run_dag(pipeline(MAPPED["reference"]))
    report = load(run.xcom("m", map_index=0))
    assert [check.name for check in report.checks if not check.passed] == ["row_count_change"]
