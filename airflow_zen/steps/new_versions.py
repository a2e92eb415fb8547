"""The versions of named artifacts that the outputs of a step run become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_zen.artifacts.named_artifacts import NextVersion
    from airflow_zen.runs.step_run import StepRun
    from airflow_zen.stack import Stack
    from airflow_zen.steps.output_checks import FailedReport
    from airflow_zen.steps.step import Step


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
