"""Declared checks of outputs, made before an output becomes visible; each gives a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import log_errors
from airflow_zen.materializers.annotations import FAIL
from airflow_zen.steps.materialize import save_outputs
from airflow_zen.steps.outputs import CHECKS_SUFFIX
from airflow_zen.validation.validators import run_validator, uses_reference

if TYPE_CHECKING:
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
