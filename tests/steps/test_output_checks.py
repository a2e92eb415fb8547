"""Promises of declared checks: made before an output becomes visible, with a report beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pandas as pd
import pandera.pandas as pp
import pytest

import airflow_zen
from airflow_zen.errors import (
    ArtifactNotFound,
    StepDefinitionError,
    ValidationDefinitionError,
    ValidationFailed,
)
from airflow_zen.materializers.annotations import Artifact
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId, StepState
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.outputs import Each, Output
from airflow_zen.steps.run import RunHooks, run_step
from airflow_zen.steps.step import Step
from airflow_zen.validation.checks import InRange, NotNull, RowCountChange, SameSchema
from airflow_zen.validation.pandera import Pandera
from airflow_zen.validation.report import Check, ValidationReport
from tests.advice import advice_of
from tests.calls import record_call, recorded_calls

CHECKS = [NotNull("delay"), InRange("delay", max=600)]


def load(stack, ref, tmp_path):
    into = tmp_path / ref.digest[:8]
    into.mkdir(exist_ok=True)
    return stack.load(ref, into)


def checked(worst: float) -> Annotated[pd.DataFrame, Artifact("features", checks=CHECKS)]:
    record_call(worst)
    return pd.DataFrame({"delay": [1.0, worst]})


def kept(worst: float) -> Annotated[pd.DataFrame, Artifact("features", checks=CHECKS, quarantine=True)]:
    record_call(worst)
    return pd.DataFrame({"delay": [1.0, worst]})


def warned(worst: float) -> Annotated[pd.DataFrame, Artifact("features", checks=CHECKS, on_failure="warn")]:
    return pd.DataFrame({"delay": [1.0, worst]})


def warned_and_kept(
    worst: float,
) -> Annotated[pd.DataFrame, Artifact("features", checks=CHECKS, on_failure="warn", quarantine=True)]:
    return pd.DataFrame({"delay": [1.0, worst]})


def test_output_that_passes_is_stored_with_a_report(run, stack, tmp_path):
    """An output whose checks pass is stored as ever; the report is an artifact beside it, with a name and a version."""
    done = run(checked, 2.0)
    assert set(done.outputs) == {"output", "output.checks"}
    report = load(stack, done.outputs["output.checks"], tmp_path)
    assert (report.passed, [check.name for check in report.checks]) == (True, ["not_empty", "not_null", "in_range"])
    assert done.outputs["output.checks"].name == "features.checks"
    assert stack.names.get("features.checks").ref.digest == done.outputs["output.checks"].digest
    assert done.metadata[""]["validation.checks"] == 3


def failed(run: Any, function: Any, *arguments: Any) -> ValidationFailed:
    with pytest.raises(ValidationFailed) as caught:
        run(function, *arguments)
    return caught.value


def test_output_that_fails_is_not_stored(run, stack, tmp_path):
    """A failed check fails the step; nothing is published under the name, and the report is stored and named."""
    error = failed(run, checked, 700.0)
    assert "1 check failed: in_range(delay)" in str(error)
    assert set(error.outputs) == {"output.checks"}
    with pytest.raises(ArtifactNotFound):
        stack.names.get("features")
    report = load(stack, stack.names.get("features.checks").ref, tmp_path)
    assert [check.title for check in report.failures] == ["in_range(delay)"]


def test_failed_step_is_computed_again(run):
    """What was not stored is not reused: the next run calls the function, and fails again."""
    failed(run, checked, 700.0)
    failed(run, checked, 700.0)
    assert recorded_calls() == [700.0, 700.0]


def test_quarantine_keeps_what_failed_out_of_sight(run, stack, tmp_path, monkeypatch):
    """An output in quarantine has a version that its label and digest select, and `latest` and times do not."""
    good = run(kept, 2.0).outputs["output"]
    bad = failed(run, kept, 700.0).outputs["output"]
    assert stack.names.get("features").ref.digest == good.digest
    assert stack.names.get("features", bad.digest[:8]).ref.digest == bad.digest
    (version,) = [each for each in stack.names.versions("features") if each.ref.digest == bad.digest]
    assert stack.names.get("features", version.version).ref.digest == bad.digest
    assert stack.names.get("features", "2100-01-01").ref.digest == good.digest
    assert load(stack, bad, tmp_path)["delay"].tolist() == [1.0, 700.0]
    (saving,) = advice_of(
        lambda: stack.names.tag("features", version.version, "golden"),
        r"is in quarantine, .* Save it again as a version to use it: (airflow_zen\.save_artifact\(.*\))\.$",
    )
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", stack.store.root)
    value = airflow_zen.artifact("features", version.version).load()
    again = eval(saving, {"airflow_zen": airflow_zen, "value": value, "name": "features"})
    again.tag("golden")
    assert stack.names.get("features", "golden").ref.digest == stack.names.get("features").ref.digest == bad.digest


def test_name_with_nothing_but_quarantine_has_no_latest(run, stack):
    """A name whose only content is in quarantine has no newest version."""
    failed(run, kept, 700.0)
    with pytest.raises(ArtifactNotFound):
        stack.names.get("features")
    assert len(stack.names.versions("features")) == 1


def test_quarantined_result_is_reused_with_its_failure(run, stack):
    """A stored output that failed is not computed again, fails again, and makes no second version."""
    failed(run, kept, 700.0)
    failed(run, kept, 700.0)
    assert recorded_calls() == [700.0]
    assert len(stack.names.versions("features")) == 1


def test_warn_publishes(run, stack):
    """With `warn` the output is the newest version all the same, and hooks hear of the failure, on a hit too."""
    for _ in range(2):
        heard = Heard()
        done = run(warned, 700.0, run_hooks=heard)
        assert done.state is StepState.FINISHED
        assert stack.names.get("features").ref.digest == done.outputs["output"].digest
        assert [report.output for report in heard.failed] == ["output.checks"]


class Heard(RunHooks):
    failed: Any = ()

    def on_failed_checks(self, failed: Any) -> None:
        self.failed = failed


def test_warn_with_quarantine_hides_and_goes_on(run, stack):
    """With `warn` and quarantine the step succeeds, and no `latest` sees the output."""
    done = run(warned_and_kept, 700.0)
    assert (done.state, done.versions["output"].quarantined) == (StepState.FINISHED, True)
    with pytest.raises(ArtifactNotFound):
        stack.names.get("features")


def test_checks_are_in_the_key(run):
    """A step whose checks changed is computed again; the action on a failure is not in the key."""
    run(checked, 2.0)

    def checked_more(worst: float) -> Annotated[pd.DataFrame, Artifact("features", checks=[NotNull("delay")])]:
        record_call(worst)
        return pd.DataFrame({"delay": [1.0, worst]})

    checked_more.__name__ = checked_more.__qualname__ = "checked"
    run(checked_more, 2.0)
    assert recorded_calls() == [2.0, 2.0]


def previous(
    rows: int, name: str = "delay"
) -> Annotated[
    pd.DataFrame,
    Artifact("table", checks=[SameSchema(), RowCountChange(0.5)]),
]:
    return pd.DataFrame({name: range(rows)})


def test_reference_is_the_previous_version(run, stack, tmp_path):
    """Checks that compare do so with the newest version of the artifact; the first version passes."""
    run(previous, 10)
    run(previous, 12)
    failed(run, previous, 30)
    failed(run, previous, 12, "late")
    report = load(stack, stack.names.get("table.checks").ref, tmp_path)
    assert [check.title for check in report.failures] == ["same_schema(delay)", "same_schema(late)"]


def streamed(worst: float) -> Annotated[Iterator[pd.DataFrame], Artifact("stream", checks=CHECKS)]:
    for start in range(3):
        yield pd.DataFrame({"delay": [float(start), worst if start == 2 else 5.0]})


def test_stream_is_checked_while_it_is_stored(run, stack, tmp_path):
    """A stream is checked batch by batch; what failed is not published."""
    done = run(streamed, 6.0)
    assert load(stack, done.outputs["output.checks"], tmp_path).rows == 6
    error = failed(run, streamed, 700.0)
    assert set(error.outputs) == {"output.checks"}
    report = load(stack, stack.names.get("stream.checks").ref, tmp_path)
    assert [(row.label, row.value) for row in report.failures[0].sample] == [("5", "700.0")]
    assert stack.names.get("stream").ref.digest == done.outputs["output"].digest


DELAYS = Pandera(pp.DataFrameSchema({"delay": pp.Column(float, pp.Check.lt(600), unique=True)}))


def unsampled(rows: int) -> Annotated[Iterator[pd.DataFrame], Artifact("long", checks=[DELAYS], on_failure="warn")]:
    for start in range(0, rows, 50_000):
        yield pd.DataFrame({"delay": [700.0 if n == rows - 1 else n / rows for n in range(start, start + 50_000)]})


def test_schema_of_pandera_reads_all_rows_of_a_stream(run, stack, tmp_path):
    """A schema that is declared on a stream finds one row that fails among more than a sample has, by its number."""
    report = load(stack, run(unsampled, 200_000).outputs["output.checks"], tmp_path)
    assert (report.rows, report.sampled) == (200_000, None)
    (check,) = report.failures
    assert (check.title, check.failing, check.sample[0].label) == ("less_than(delay)", 1, "199999")
    assert report.check("unique", "delay").passed


def two(worst: float) -> Output(
    left=Annotated[pd.DataFrame, Artifact(checks=CHECKS)],
    right=Annotated[pd.DataFrame, Artifact(checks=NotNull("delay"))],
):
    frame = pd.DataFrame({"delay": [worst]})
    return frame, frame


def test_each_output_has_its_own_report(run):
    """Two outputs with checks have a report each, and metrics under their names."""
    done = run(two, 3.0)
    assert set(done.outputs) == {"left", "right", "left.checks", "right.checks"}
    assert done.outputs["left.checks"].name == "d/t.left.checks"
    assert done.metadata["output:left.checks"]["validation.checks"] == 3
    assert done.metadata["output:right.checks"]["validation.checks"] == 2


def parts() -> Annotated[list[Annotated[pd.DataFrame, Artifact(checks=NotNull("delay"))]], Each]:
    return [pd.DataFrame({"delay": [1.0]}), pd.DataFrame({"delay": [None]})]


def test_elements_of_a_marked_list_are_checked(run):
    """Each element of a list marked `Each` is checked on its own."""
    error = failed(run, parts)
    assert set(error.outputs) == {"output[0]", "output[0].checks", "output[1].checks"}


def small(table: pd.DataFrame) -> ValidationReport:
    return ValidationReport("small", [Check(name="few_rows", passed=len(table) < 3)])


def by_function() -> Annotated[pd.DataFrame, Artifact("mine", checks=[small, NotNull("a")])]:
    return pd.DataFrame({"a": [1, 2]})


def test_functions_and_built_in_checks_are_one_report(run, stack, tmp_path):
    """A list may have built-in checks and functions; each check says whose it is."""
    report = load(stack, run(by_function).outputs["output.checks"], tmp_path)
    assert {check.name: check.validator for check in report.checks}["few_rows"] == "small"
    assert report.passed


@pytest.mark.parametrize("action", ["stop", [], 3])
def test_unknown_action_is_refused_where_it_is_written(action):
    """An action that does not exist is an error with those that do."""
    with pytest.raises(ValidationDefinitionError, match="'fail', 'warn', 'skip'"):
        Artifact("features", on_failure=action)


def takes(table: Annotated[pd.DataFrame, Artifact(checks=NotNull("delay"))]) -> int:
    return len(table)


def test_checks_of_a_parameter_are_refused(run):
    """Checks are declared on outputs: on a parameter they are an error, and not ignored."""
    with pytest.raises(StepDefinitionError, match="'table'"):
        run(takes, run(checked, 2.0).outputs["output"].to_wire())


def test_model_in_quarantine_is_not_registered(stack):
    """An output in quarantine does not become a version of the registered model that its step names."""
    for worst, model in ((2.0, "flight_delay"), (700.0, "")):
        begun = StepRun(StepRunId("d", "r", "t"), cache=CacheState.MISS, model="flight_delay")
        done = run_step(Step(warned_and_kept, "t"), Arguments.bind(warned_and_kept, [worst], {}), stack, begun)
        assert done.model == model


def own_report() -> ValidationReport:
    return ValidationReport("mine", [Check(name="late", passed=False)], metrics={"share": 0.5})


def test_report_of_a_step_of_the_user_does_not_fail_it(run):
    """A step that returns a failed report has its metrics in the record, and fails nothing by itself."""
    done = run(own_report)
    assert done.state is StepState.FINISHED
    assert done.metadata[""] == {"validation.checks": 1, "validation.failed": 1, "validation.warnings": 0, "share": 0.5}
