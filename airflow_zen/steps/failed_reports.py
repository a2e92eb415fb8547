"""The failed validation reports among the outputs of a step, and their declared effects."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from airflow_zen.errors import ValidationFailed, log_errors
from airflow_zen.materializers.annotations import FAIL, WARN, FailureAction
from airflow_zen.runs.step_run import StepRun, StepState
from airflow_zen.steps.outputs import checked_output

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.stack import Stack
    from airflow_zen.steps.step import Step

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
        parts.append(f"{count} checks failed: {named}{more}. The report is artifact {run.outputs[each.output].name!r}.")
    return " ".join(parts)


def failed_error(run: StepRun, failed: Sequence[FailedReport]) -> ValidationFailed:
    """Return the error of a run that failed because of its reports."""
    error = ValidationFailed(failure_message(run, [each for each in failed if each.action == FAIL]))
    error.outputs = dict(run.outputs)
    return error
