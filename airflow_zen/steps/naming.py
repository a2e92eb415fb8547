"""Make what a step gave the newest version of its name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.artifacts.version import RecordedVersion
from airflow_zen.lineage.step_run import StepRun
from airflow_zen.stack import Stack
from airflow_zen.steps.step import Step

log = logging.getLogger("airflow_zen.steps")

_PUBLISH_THREADS = 8


def publish_versions(step: Step, stack: Stack, run: StepRun) -> Mapping[str, RecordedVersion]:
    """Make each output the newest version of its name where its content is new there; never raises.

    A reused result is one too, when something else was made in between. Elements of a list marked `Each` are not
    kept by name: what is at a place of a list is not the same thing the next time.
    """
    if step.outputs.each:
        return {}
    with ThreadPoolExecutor(min(_PUBLISH_THREADS, len(run.outputs))) as pool:
        made = dict(
            zip(run.outputs, pool.map(lambda ref: _publish_version(ref, stack, run), run.outputs.values()), strict=True)
        )
    return {output: version for output, version in made.items() if version}


def versioned_name(ref: ArtifactRef, map_index: int) -> str:
    """Give an instance of a mapped step a history of its own: `dag/task[3]`.

    In one history for all of them each would find another's content, and take its own for new, in every run.
    """
    return ref.name if map_index < 0 else f"{ref.name}[{map_index}]"


def _publish_version(ref: ArtifactRef, stack: Stack, run: StepRun) -> RecordedVersion | None:
    name = versioned_name(ref, run.id.map_index)
    try:
        return stack.names.add(
            name,
            ref,
            run.ended or stack.clock(),
            origin=str(run.id),
            dag_run=f"{run.id.dag_id}/{run.id.run_id}",
        )
    except Exception as error:  # noqa: BLE001 - a step that succeeded stays so, whatever the store says
        log.warning("Artifact %r has no new version, though its content is stored: %s", name, error)
        return None
