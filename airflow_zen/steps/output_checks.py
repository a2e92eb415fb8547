"""The declared checks of outputs, made before an output becomes visible, and the effects of reports that failed.

One of them: an output in quarantine does not become the newest version of its name.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from airflow_zen.errors import ValidationFailed, log_errors
from airflow_zen.markup import format_count
from airflow_zen.materializers.annotations import FAIL, WARN, FailureAction
from airflow_zen.runs.step_run import StepRun, StepState
from airflow_zen.steps.outputs import CHECKS_SUFFIX, checked_output

if TYPE_CHECKING:
    from airflow_zen.artifacts.named_artifacts import NextVersion
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.stack import SavedArtifact, Stack
    from airflow_zen.steps.runtime import Execution
    from airflow_zen.steps.step import Step
    from airflow_zen.validation.report import ValidationReport
    from airflow_zen.validation.stream_check import StreamCheck


def check_and_save(
    step: Step, values: dict[str, Any], stack: Stack, execution: Execution
) -> Mapping[str, SavedArtifact]:
    """Make the declared checks of the outputs, and store outputs and reports; a rejected output is left out.

    The reports are added to `values` as further outputs. A stream is checked while it is stored.
    """
    from airflow_zen.steps.materialize import save_outputs
    from airflow_zen.validation.validators import run_validator

    reports: dict[str, ValidationReport] = {}
    streams: dict[str, StreamCheck] = {}
    for name in [name for name in values if step.checks(name)]:
        reference = _previous_version(step, name, stack, execution)
        if isinstance(values[name], Iterator):
            from airflow_zen.validation.stream_check import StreamCheck

            file = execution.scratch / f"{name}.arrows"
            streams[name] = StreamCheck(step.checks(name), file, reference)
            values[name] = streams[name].watch(values[name])
        else:
            reports[name] = run_validator(list(step.checks(name)), values[name], reference)
            if _is_dropped(step, name, reports[name]):
                values.pop(name)
    saved = save_outputs(step, values, stack, execution.run)
    for name, stream in streams.items():
        reports[name] = stream.report()
        if _is_dropped(step, name, reports[name]):
            # Nothing refers to what was stored, and the next prune deletes it.
            saved.pop(name)
    values |= {f"{name}{CHECKS_SUFFIX}": report for name, report in reports.items()}
    written = {name: values[name] for name in values if name.endswith(CHECKS_SUFFIX)}
    return {**saved, **save_outputs(step, written, stack, execution.run)}


def _is_dropped(step: Step, output: str, report: ValidationReport) -> bool:
    """Whether a failed check keeps an output from being stored."""
    mark = step.output_artifact(output)
    return not report.passed and mark.on_failure == FAIL and not mark.quarantine


def _previous_version(step: Step, output: str, stack: Stack, execution: Execution) -> Any:
    """Return the newest version of an output's name as a dataset, which is read when it is needed.

    None if no check compares with it, if there is none, or if it is no table.
    """
    from airflow_zen.validation.validators import uses_reference

    if not uses_reference(step.checks(output)):
        return None
    from airflow_zen.validation.tables import DATASET

    name = step.version_names(execution.run.id, [output]).get(output)
    with log_errors(f"Checks of {output!r} are made without its previous version"):
        key = stack.names.newest_key(name) if name else None
        if key is not None:
            ref = stack.names.read(key).ref
            into = execution.scratch / f"previous-{output}"
            into.mkdir()
            return stack.load(ref, into, DATASET)
    return None


log = logging.getLogger("airflow_zen.validation")

REPORT_ENCODINGS = "validation."
"""The prefix of the encodings of reports."""


class FailedReport(msgspec.Struct, frozen=True):
    """A report that failed: its output name, and the declared effect of the failure.

    `quarantined` is the checked output that does not become the newest version of its name; empty for none.
    """

    output: str
    action: FailureAction
    summary: Mapping[str, Any]
    quarantined: str = ""


def judge_reports(step: Step, stack: Stack, run: StepRun) -> tuple[StepRun, list[FailedReport]]:
    """Return the run with the metrics of its reports, failed if a failed report requires it; and the failed reports.

    The failed checks are logged as a table. A hit reads the summaries of its reports from their manifests.
    """
    reports = {output: ref for output, ref in run.outputs.items() if ref.encoding.startswith(REPORT_ENCODINGS)}
    if not reports:
        return run, []
    failed = []
    metadata = dict(run.metadata)
    for output, ref in reports.items():
        summary = _read_summary(run, ref, stack)
        subject = "" if len(reports) == 1 else f"output:{output}"
        metadata[subject] = {**metadata.get(subject, {}), **summary.get("facts", {})}
        log_report(step.artifact_name(run.id, output), summary)
        if not summary.get("passed", True):
            failed.append(_failed_report(step, output, run, summary))
    run = replace(run, metadata=metadata, model="" if any(each.quarantined for each in failed) else run.model)
    causes = [each for each in failed if each.action == FAIL]
    if causes:
        run = replace(run, state=StepState.FAILED, error=f"ValidationFailed: {failure_message(run, causes)}")
    return run, failed


def _read_summary(run: StepRun, ref: ArtifactRef, stack: Stack) -> Mapping[str, Any]:
    if ref.digest in run.summaries:
        found: Mapping[str, Any] = run.summaries[ref.digest].get("validation", {})
        return found
    with log_errors("The verdict of a report is not known"):
        known: Mapping[str, Any] = stack.store.manifest(ref).summary.get("validation", {})
        return known
    return {"passed": False, "failures": [], "facts": {}}


def _failed_report(step: Step, output: str, run: StepRun, summary: Mapping[str, Any]) -> FailedReport:
    action, checked = step.failure_action(output), checked_output(output)
    is_kept = checked in run.outputs and (action != WARN or step.output_artifact(checked).quarantine)
    return FailedReport(output, action, summary, checked if is_kept else "")


def log_report(name: str, summary: Mapping[str, Any]) -> None:
    """Log the verdict of a report, and its failed checks as a short table."""
    from airflow_zen.validation.report import failure_table

    facts = summary.get("facts", {})
    checks, failed, warnings = (int(facts.get(f"validation.{name}", 0)) for name in ("checks", "failed", "warnings"))
    if not failed and not warnings:
        log.info("%s: all %d checks passed", name, checks)
        return
    table = failure_table(summary.get("failures", ()))
    log.warning("%s: %d of %d checks failed, %d warnings\n%s", name, failed, checks, warnings, table)


def failure_message(run: StepRun, failed: Iterable[FailedReport]) -> str:
    """Return the names of the failed checks, and of the artifact with the report."""
    parts = []
    for each in failed:
        names = [
            f"{name}({column})" if column else name
            for name, column, severity, *_ in each.summary["failures"]
            if severity == "error"
        ]
        count, named = int(each.summary["facts"].get("validation.failed", 0)), ", ".join(names[:5])
        more = f" and {count - 5} more" if count > 5 else ""
        parts.append(
            f"{format_count(count, 'check')} failed: {named}{more}. The report is artifact {run.outputs[each.output].name!r}."
        )
    return " ".join(parts)


def failed_error(run: StepRun, failed: Sequence[FailedReport]) -> ValidationFailed:
    """Return the error of a run that failed because of its reports."""
    error = ValidationFailed(failure_message(run, [each for each in failed if each.action == FAIL]))
    error.outputs = dict(run.outputs)
    return error


def next_versions(
    step: Step,
    stack: Stack,
    run: StepRun,
    newest: Mapping[str, str | None] | None,
    failed: Sequence[FailedReport] = (),
) -> Mapping[str, NextVersion]:
    """Return by output what makes it the newest version of its name, if its content is not already.

    This includes a reused result, if something else was computed in between. The facts that user code logged about an
    output are the metadata of a version that it makes. `newest` is what `VersionIndex.lookups` found, None to look now.
    An output whose checks `failed` becomes a version in quarantine.
    """
    quarantined = {report.quarantined for report in failed}
    if newest is None:
        newest, lookups = stack.names.lookups(step.version_names(run.id, run.outputs))
        stack.store.transport.together(*lookups)
    now, origin, dag_run = run.ended or stack.clock(), str(run.id), f"{run.id.dag_id}/{run.id.run_id}"
    names = step.version_names(run.id, newest)
    found = {}
    for output in (output for output in run.outputs if output in newest):
        metadata = stack.redactor.mapping(run.metadata.get(f"output:{output}", {}))
        facts: dict[str, Any] = {"origin": origin, "dag_run": dag_run, "metadata": metadata}
        ref, name = run.outputs[output], names[output]
        if output in quarantined:
            found[output] = stack.names.next_in_quarantine(name, ref, now, **facts)
        else:
            found[output] = stack.names.next(name, ref, now, newest[output], **facts)
    return found
