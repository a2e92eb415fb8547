"""Promises of `validate` in Airflow's real task runner: the report, and what its failure does."""

from __future__ import annotations

import logging
import sys
from datetime import timedelta
from typing import Annotated, Any

import pandas as pd
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.sdk import task, task_group
from airflow.sdk.execution_time.comms import SkipDownstreamTasks

from airflow_zen import (
    Artifact,
    Check,
    Fresh,
    InRange,
    NotNull,
    RowCount,
    SameSchema,
    ValidateOperator,
    ValidationReport,
    artifact,
    load,
    ml_step,
    validate,
)
from airflow_zen.config.settings import open_stack
from airflow_zen.errors import StepDefinitionError, ValidationDefinitionError
from airflow_zen.operators.ml_step import MLStepOperator
from airflow_zen.runs.step_run import StepRunId, StepState
from airflow_zen.runtimes import Python
from airflow_zen.validation import validators
from tests.airflow_version import AIRFLOW_VERSION, DagSerialization
from tests.calls import record_call, recorded_calls
from tests.harness import DagRunResult, run_dag
from tests.operators.pipelines import pipeline
from tests.validation.environments import write_distribution

pytestmark = pytest.mark.usefixtures("root")

SUITE = [NotNull("delay"), InRange("delay", max=600)]


@ml_step
def flights(worst: float = 700.0) -> pd.DataFrame:
    return pd.DataFrame({"delay": [1.0, None, worst]})


@ml_step
def clean() -> pd.DataFrame:
    return pd.DataFrame({"delay": [1.0, 2.0]})


@task
def good() -> None: ...


@task
def alert() -> None: ...


def record_of(run: DagRunResult, task_id: str, run_id: str = "manual__1") -> Any:
    return open_stack().records.get(StepRunId("d", run_id, task_id))


def skipped(run: DagRunResult) -> list[Any]:
    sent = [message for message in run.supervisor.sent_messages if isinstance(message, SkipDownstreamTasks)]
    return [task_id for message in sent for task_id in message.tasks]


def test_report_of_a_good_table_is_the_output():
    """The output of the step is a report that the next step takes as an argument."""

    @ml_step
    def gate(report: ValidationReport) -> bool:
        return report.passed and report.rows == 2

    run = run_dag(pipeline(lambda: gate(validate(clean(), SUITE))))
    assert set(run.states.values()) == {"success"}
    assert load(run.xcom("gate")) is True
    assert load(run.xcom("validate_clean")).validator == "built-in checks"


def test_failure_fails_the_task_without_a_retry_and_keeps_the_report():
    """A failed check fails the task at once; the report is in XCom, named, and an output of the failed step run."""
    run = run_dag(pipeline(lambda: validate(flights(), SUITE), default_args={"retries": 3}))
    failed = run.task("validate_flights")
    assert (failed.state, type(failed.error)) == ("failed", AirflowFailException)
    assert "not_null(delay), in_range(delay)" in str(failed.error)
    report = load(run.xcom("validate_flights"))
    assert [check.title for check in report.failures] == ["not_null(delay)", "in_range(delay)"]
    record = record_of(run, "validate_flights")
    assert record.state is StepState.FAILED
    assert record.outputs["output"].digest == run.xcom("validate_flights")["digest"]
    assert record.metadata[""]["validation.failed"] == 2
    assert open_stack().names.get("d/validate_flights").ref.digest == run.xcom("validate_flights")["digest"]


def test_failure_prints_a_short_table(caplog):
    """The task's log has a line for each failed check."""
    with caplog.at_level(logging.WARNING, "airflow_zen.validation"):
        run_dag(pipeline(lambda: validate(flights(), SUITE)))
    lines = caplog.text.splitlines()
    assert any("2 of 3 checks failed" in line for line in lines)
    assert any(line.startswith("in_range | delay  | error    | from 1.0 to 700.0") for line in lines), caplog.text


def test_validating_the_same_bytes_again_is_a_look_up(caplog):
    """The same table and suite are not checked again, and the failure is the same."""
    with caplog.at_level(logging.INFO, "airflow_zen"):
        run_dag(pipeline(lambda: validate(flights(), SUITE)))
        caplog.clear()
        run = run_dag(pipeline(lambda: validate(flights(), SUITE)), run_id="r2")
    assert run.states == {"flights": "success", "validate_flights": "failed"}
    assert run.xcom("validate_flights")["cached"] is True
    assert "in_range | delay" in caplog.text
    record = record_of(run, "validate_flights", "r2")
    assert (record.state, record.is_hit) == (StepState.FAILED, True)
    assert record.metadata[""]["validation.failed"] == 2


def only_small(table: pd.DataFrame) -> ValidationReport:
    record_call("only_small")
    return ValidationReport("mine", [Check(name="small", passed=len(table) < 10)])


@pytest.mark.parametrize(
    "other", [[NotNull("delay"), InRange("delay", max=900)], [NotNull("delay", severity="warning")]]
)
def test_another_suite_is_checked_anew(other):
    """The parameters of the suite are in the cache key."""
    run_dag(pipeline(lambda: validate(clean(), SUITE)))
    run = run_dag(pipeline(lambda: validate(clean(), other)), run_id="r2")
    assert run.xcom("validate_clean")["cached"] is False


def test_function_of_the_user_is_a_validator_whose_code_is_in_the_key(monkeypatch):
    """A function gets the table as its step returned it; it is called again only for other code or other data."""
    for run_id in ("r1", "r2"):
        run = run_dag(pipeline(lambda: validate(clean(), only_small)), run_id=run_id)
        assert load(run.xcom("validate_clean")).check("small").passed
    assert recorded_calls() == ["only_small"]

    def only_small_now(table: pd.DataFrame) -> ValidationReport:
        record_call("only_small_now")
        return ValidationReport("mine", [Check(name="small", passed=len(table) < 20)])

    run_dag(pipeline(lambda: validate(clean(), only_small_now)), run_id="r3")
    assert len(recorded_calls()) == 2


class OnlySmall:
    """A validator of a user as a class."""

    def check(self, table: pd.DataFrame, reference: pd.DataFrame | None = None) -> ValidationReport:
        return ValidationReport("class", [Check(name="rows", passed=len(table) < 3, failing=len(table))])


def checked(mark: Artifact) -> Any:
    """Return a step whose output has a mark."""

    def declared(table):
        return table

    declared.__annotations__ = {"table": pd.DataFrame, "return": Annotated[pd.DataFrame, mark]}
    return ml_step(declared)


def test_own_validators_in_each_form(tmp_path, monkeypatch):
    """A function, a class and an entry point of the user validate as a step, as an operator, and on an output."""
    write_distribution(tmp_path, "company_rules_module:Rules")
    monkeypatch.syspath_prepend(str(tmp_path))
    validators.entry_point_validators.cache_clear()
    own = {"function": only_small, "class": OnlySmall, "entry_point": "company"}

    def build():
        table = flights()
        for name, validator in own.items():
            checked(Artifact(name, checks=[validator], on_failure="warn")).override(task_id=f"declared_{name}")(table)
            validate(table, validator, on_failure="warn", task_id=f"step_{name}")
            ValidateOperator(task_id=f"operator_{name}", table=table, validator=validator, on_failure="warn")

    run = run_dag(pipeline(build))
    assert set(run.states.values()) == {"success"}
    for name in own:
        reports = [load(run.xcom(f"{form}_{name}")) for form in ("step", "operator")]
        reports.append(artifact(f"{name}.checks").load())
        assert [report.passed for report in reports] == [name != "class"] * 3
        assert len({report.checks for report in reports}) == 1


def test_warn_goes_on():
    """With `warn` the task succeeds, and the report says what failed."""
    run = run_dag(pipeline(lambda: validate(flights(), SUITE, on_failure="warn") >> good()))
    assert set(run.states.values()) == {"success"}
    assert skipped(run) == []
    assert not load(run.xcom("validate_flights")).passed
    assert record_of(run, "validate_flights").state is StepState.FINISHED


@pytest.mark.parametrize("run_ids", [["r1"], ["r1", "r2"]], ids=["computed", "cached"])
def test_skip_skips_the_tasks_downstream(run_ids):
    """With `skip` the task succeeds and skips those after it, also when the report is reused."""
    for run_id in run_ids:
        run = run_dag(
            pipeline(lambda: validate(flights(), SUITE, on_failure="skip") >> [good(), alert()]), run_id=run_id
        )
        assert run.task("validate_flights").state == "success"
        assert sorted(skipped(run)) == ["alert", "good"]
        assert not load(run.xcom("validate_flights")).passed


@pytest.mark.parametrize(("table", "expected"), [(flights, "good"), (clean, "alert")])
def test_branch_follows_one_side(table, expected):
    """A list of task ids is followed after a failure; without one the other tasks are."""
    run = run_dag(pipeline(lambda: validate(table(), SUITE, on_failure=["alert"], task_id="v") >> [good(), alert()]))
    assert [name if isinstance(name, str) else name[0] for name in skipped(run)] == [expected]


def test_airflow_is_told_which_tasks_skip():
    """A task whose failure skips others is one that Airflow asks about them when they are cleared; no other is."""
    d = pipeline(
        lambda: [validate(clean(), SUITE, on_failure=action, task_id=f"v{at}") for at, action in enumerate(ACTIONS)]
    )
    assert [d.get_task(f"v{at}").inherits_from_skipmixin for at in range(4)] == [False, False, True, True]


ACTIONS: list[Any] = ["fail", "warn", "skip", ["alert"]]


def test_mapped_operator_checks_each_table():
    """A mapped operator checks one table for each task."""

    @ml_step
    def month(number: int) -> pd.DataFrame:
        return pd.DataFrame({"delay": [float(number)]})

    def build():
        ValidateOperator.partial(task_id="v", validator=InRange("delay", max=2), on_failure="warn").expand(
            table=month.expand(number=[1, 2, 3])
        )

    run = run_dag(pipeline(build))
    assert [load(run.xcom("v", map_index=at)).passed for at in range(3)] == [True, True, False]


@task_group
def checked_group(worst: float) -> None:
    validate(flights(worst), SUITE, on_failure="skip") >> good()


@ml_step
def skipping(worst: float) -> Annotated[pd.DataFrame, Artifact("s", checks=[NotNull("delay")], on_failure=["alert"])]:
    return pd.DataFrame({"delay": [worst]})


@pytest.mark.parametrize(
    "build",
    [
        lambda: ValidateOperator.partial(task_id="v", validator=SUITE, on_failure="skip").expand(table=[clean()]),
        lambda: checked_group.expand(worst=[1.0, 2.0]),
        lambda: skipping.expand(worst=[1.0, 2.0]),
        lambda: MLStepOperator.partial(task_id="v", python_callable=skipping.function).expand(op_args=[[1.0]]),
    ],
    ids=["operator", "task group", "declared checks", "operator of a function"],
)
def test_mapped_task_cannot_skip_others(build):
    """A mapped task whose failure is to skip tasks, which Airflow does not do, is refused with the way out."""
    with pytest.raises(StepDefinitionError, match="raise AirflowSkipException"):
        pipeline(build)


def test_step_after_a_mapped_check_skips_itself():
    """The way out of a mapped check that is to skip tasks: the next step skips itself by its report."""

    @ml_step
    def after(report: ValidationReport) -> float:
        if not report.passed:
            raise AirflowSkipException("The checks failed.")
        return 1.0

    def build():
        reports = ValidateOperator.partial(task_id="v", validator=SUITE[1], on_failure="warn").expand(
            table=flights.expand(worst=[1.0, 700.0])
        )
        after.expand(report=reports.output)

    run = run_dag(pipeline(build))
    assert [run.task("after", map_index=at).state for at in range(2)] == ["success", "skipped"]


def test_reference_is_an_artifact():
    """A reference is another artifact; a tag of a named one selects the version that has it when the task runs."""

    @ml_step
    def other() -> Annotated[pd.DataFrame, Artifact("other")]:
        return pd.DataFrame({"delay": ["late"]})

    run_dag(pipeline(other))
    names = open_stack().names
    names.tag("other", names.get("other").version, "champion")
    reference = Artifact("other").tagged("champion")
    run = run_dag(pipeline(lambda: validate(clean(), SameSchema(), reference=reference)), run_id="r2")
    (failure,) = load(run.xcom("validate_clean")).failures[-1:]
    assert (failure.title, failure.observed, "string" in failure.expected) == ("same_schema(delay)", "double", True)


def test_checks_run_in_another_runtime():
    """Built-in checks of a step, and those of an output, are made in the runtime of the step, with the same report."""
    here = Python(sys.executable)

    @ml_step(runtime=here)
    def table() -> Annotated[pd.DataFrame, Artifact("t", checks=[InRange("delay", max=2)], on_failure="warn")]:
        return pd.DataFrame({"delay": [1.0, 5.0]})

    run = run_dag(pipeline(lambda: validate(table(), [InRange("delay", max=2)], runtime=here, on_failure="warn")))
    assert set(run.states.values()) == {"success"}
    declared, own = artifact("t.checks").load(), load(run.xcom("validate_table"))
    assert declared == own
    assert [check.title for check in own.failures] == ["in_range(delay)"]


def test_freshness_is_checked_each_time():
    """A check that depends on the time is not cached, unless the time is given."""
    for run_id in ("r1", "r2"):
        run = run_dag(
            pipeline(lambda: validate(clean(), Fresh("delay", timedelta(days=1)), on_failure="warn")), run_id=run_id
        )
    assert run.xcom("validate_clean")["cached"] is False


def test_task_ids_are_those_of_the_table():
    """Two checks of one artifact have different task ids; a version of a named artifact gives its name."""
    d = pipeline(
        lambda: [
            table := clean(),
            validate(table, SUITE),
            validate(table, RowCount()),
            validate(Artifact("a/b").latest(), SUITE),
        ]
    )
    assert set(d.task_ids) == {"clean", "validate_clean", "validate_clean__1", "validate_a_b"}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"table": 3}, StepDefinitionError, "takes the output of a step"),
        ({"table": pd.DataFrame({"a": range(50)})}, StepDefinitionError, r"got a DataFrame\. "),
        ({"validator": SameSchema()}, StepDefinitionError, r"compares with a reference.*reference=Artifact\("),
        ({"validator": []}, ValidationDefinitionError, "empty"),
        ({"validator": 3}, ValidationDefinitionError, "built-in check"),
        ({"on_failure": "fial"}, ValidationDefinitionError, "'fial'"),
        ({"on_failure": []}, ValidationDefinitionError, "on_failure"),
        ({"sample": -1}, StepDefinitionError, "sample"),
        ({"validator": only_small, "runtime": "Virtualenv()"}, StepDefinitionError, "task's process"),
        ({"severity": {"not_null": "fatal"}}, ValidationDefinitionError, "fatal"),
    ],
)
def test_wrong_arguments_fail_when_the_dag_is_parsed(arguments, error, message):
    """What cannot be checked is refused where it is written, with the way out."""
    with pytest.raises(error, match=message):
        pipeline(lambda: validate(**{"table": clean(), "validator": SUITE, **arguments}))


@pytest.mark.skipif(AIRFLOW_VERSION < (3, 2), reason="Airflow 3.1 serializes a function in a list by its address")
def test_serialized_dag_is_the_same_each_time():
    """The DAG with a validator serializes to the same document at each parse."""
    made = [DagSerialization.to_dict(pipeline(lambda: validate(clean(), [*SUITE, only_small]))) for _ in range(2)]
    assert made[0] == made[1]
    assert " at 0x" not in str(made[0])


WRONG = [3]


def test_declared_checks_are_validated_when_the_dag_is_parsed():
    """What is no validator among the checks of an artifact is an error before anything is computed."""

    @ml_step
    def made() -> Annotated[pd.DataFrame, Artifact("made", checks=WRONG)]:
        return pd.DataFrame({"a": [1]})

    with pytest.raises(ValidationDefinitionError, match="got 3"):
        pipeline(made)
