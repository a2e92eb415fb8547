"""What killed tasks have left in an artifact root: runs that nobody goes on with, and objects of pods."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection

from msgspec.structs import replace

from airflow_zen.errors import UNREADABLE, ArtifactNotFound
from airflow_zen.runs.step_run import StepRunId, StepState, SuspendedRun
from airflow_zen.stack import Stack
from airflow_zen.transports.base import ObjectInfo

_PODS = "runtimes/pods"
_ENDED = "StepInterrupted: the DAG run ended while the task was deferred"

DagRuns = Collection[tuple[str, str]]


def list_pod_objects(stack: Stack, unfinished: DagRuns, before: float) -> list[str]:
    """Return the keys of specs and answers of pods, written before a time, of DAG runs that are not unfinished.

    unfinished: DAG and run ids. before: seconds since the epoch.
    """
    pods = defaultdict[str, list[ObjectInfo]](list)
    for each in stack.store.transport.list_objects(_PODS):
        pods[each.key.rpartition("/")[0]].append(each)
    old = (folder for folder, objects in pods.items() if max(each.modified for each in objects) < before)
    return [each.key for folder in old if _dag_run(stack, folder) not in unfinished for each in pods[folder]]


def end_suspended_runs(stack: Stack, unfinished: DagRuns, before: float) -> None:
    """End the runs as killed that were suspended before a time, and whose DAG runs are not unfinished.

    MLflow, which shows them as running, receives their records as it receives those that it has missed.
    """
    for suspended in stack.records.suspended():
        run = suspended.run.id
        if suspended.run.started < before and (run.dag_id, run.run_id) not in unfinished:
            _end(stack, suspended)


def _end(stack: Stack, suspended: SuspendedRun) -> None:
    run = replace(suspended.run, state=StepState.KILLED, ended=stack.clock(), error=_ENDED)
    if not stack.records.exists(run.id):
        stack.records.put(run, delivered=not suspended.lineage)
    stack.records.delete_suspended(run.id)


def _dag_run(stack: Stack, folder: str) -> tuple[str, str]:
    """Return DAG and run id of a pod; empty where its spec cannot be read."""
    try:
        run = StepRunId.parse(json.loads(stack.store.transport.read(f"{folder}/spec.json"))["run"])
    except (ArtifactNotFound, *UNREADABLE):
        return "", ""
    return run.dag_id, run.run_id
