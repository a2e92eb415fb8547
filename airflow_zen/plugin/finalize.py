"""The child process that finalizes ended DAG runs: `python -m airflow_zen.plugin.finalize`, a request as JSON on stdin.

It loads Airflow, which takes 2 s of CPU, only for what Airflow's database or its connections know.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.lineage.mlflow.dag_runs import running_dag_runs
from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.lineage.mlflow.sync import sync_pending
from airflow_zen.lineage.recorder import NullRecorder
from airflow_zen.materializers.registry import default_registry
from airflow_zen.plugin.worker import (
    BACKFILL_PREFIX,
    CATCH_UP_FLAG,
    EXIT_CODE_PENDING,
    PROCESS_TIMEOUT,
    FinalizeRequest,
    StackAccess,
)
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import FinishedDagRun
from airflow_zen.stack import Stack
from airflow_zen.transports import open_transport
from airflow_zen.transports.credentials import fsspec_options

if TYPE_CHECKING:
    from airflow_zen.transports.base import Transport

log = logging.getLogger("airflow_zen.plugin")


def main() -> int:
    """Finalize the DAG runs of stdin, and return the exit code."""
    # Half of a busy process's share of a core: less than the scheduler's, and enough beside training on every core.
    os.nice(3)
    # The worker's own timeout ends with its process, which this one outlives.
    signal.alarm(round(PROCESS_TIMEOUT))
    return finalize_in_all_stacks(
        msgspec.json.decode(sys.stdin.read(), type=FinalizeRequest), CATCH_UP_FLAG in sys.argv
    )


def finalize_in_all_stacks(request: FinalizeRequest, catch_up: bool = False) -> int:
    """Finalize in every stack, because a DAG run may have steps in any; return the exit code.

    A stack that fails does not stop the others; the worker then passes the runs to the next process.
    """
    code = 0
    for access in request.stacks:
        try:
            done = finalize_dag_runs(_open_stack(access), request.runs, catch_up, request.is_backfill)
        except Exception:
            log.exception("The DAG runs in stack %r could not be finalized.", access.name)
            code = 1
        else:
            code = code or (0 if done else EXIT_CODE_PENDING)
    return code


def _open_stack(access: StackAccess) -> Stack:
    """Open a stack, without Airflow if the request contains all that is needed."""
    if not access.artifact_root:
        from airflow_zen.config.settings import Settings, open_stack

        return open_stack(Settings.read(access.name))
    options = fsspec_options(access.connection) if access.connection else {}
    root, transport = access.artifact_root, open_transport(access.artifact_root, options)
    server = TrackingServer(**access.server) if access.server else None
    return Stack(
        store=ArtifactStore(root, transport),
        materializers=default_registry(allow_pickle=False),
        cache=StepCache(transport),
        records=StepRunRecords(transport),
        lineage=MlflowRecorder(MlflowRest(server), transport, root, access.lineage_trace) if server else NullRecorder(),
    )


def finalize_dag_runs(
    stack: Stack, runs: Sequence[FinishedDagRun], catch_up: bool = False, is_backfill: bool = False
) -> bool:
    """Record the ends of DAG runs, deliver pending lineage, and close and draw the runs; return whether all is done.

    The ends are recorded first, so that the next process finds them after any failure. `catch_up` searches for missed
    ends. `is_backfill`: whether a backfill started any of the runs, so that its totals are printed.
    """
    recorder = stack.lineage
    if not isinstance(recorder, MlflowRecorder):
        if is_backfill:
            _print_backfill_totals(runs, stack.store.transport)
        return True
    for run in runs:
        stack.records.put_finished_dag_run(run)
    ends_recorded = not catch_up or _record_missed_ends(stack, recorder)
    if is_backfill:
        _print_backfill_totals(runs, stack.store.transport)
    delivery = sync_pending(recorder, stack.records, stack.clock)
    if delivery is None or delivery.failed or not ends_recorded:
        return False
    return not any(True for left in (stack.records.undelivered(), stack.records.finished_dag_runs()) for _ in left)


def _record_missed_ends(stack: Stack, recorder: MlflowRecorder) -> bool:
    """Record missed ends; False when MLflow or Airflow's database cannot be read."""
    try:
        for run in missed_ends(stack, recorder):
            stack.records.put_finished_dag_run(run)
    except Exception as error:  # noqa: BLE001 - of Airflow's database, or of MLflow
        log.warning("Missed ends of DAG runs are searched again later: %s", error)
        return False
    return True


def missed_ends(stack: Stack, recorder: MlflowRecorder) -> Iterator[FinishedDagRun]:
    """Yield the ends of DAG runs that MLflow shows as running; a run deleted in Airflow ends as KILLED, now.

    Runs of another deployment are omitted: they have no records in this stack, or neither a DAG version nor an entry in
    the audit log of this Airflow. Raises `LineageError` when MLflow is unavailable or refuses.
    """
    recorded = {(run.dag_id, run.run_id) for run in stack.records.finished_dag_runs()}
    for open_run in [*running_dag_runs(recorder.rest)]:
        run = open_run.dag_id, open_run.run_id
        if run not in recorded and stack.records.has_dag_run(*run):
            from airflow_zen.plugin.database import missed_end

            if end := missed_end(open_run, stack.clock()):
                yield end


def _print_backfill_totals(runs: Sequence[FinishedDagRun], transport: Transport) -> None:
    try:
        from airflow_zen.plugin.database import backfill_summaries

        lines = list(backfill_summaries(runs, transport))
    except Exception as error:  # noqa: BLE001 - totals are not worth the lineage of a DAG run
        lines = [f"{BACKFILL_PREFIX}totals could not be read: {error!r}".replace("\n", " ")]
    sys.stdout.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
