"""The process that follows the end of DAG runs: `python -m airflow_zen.plugin.follow_up`, DAG runs as JSON on stdin."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence

from sqlalchemy.exc import SQLAlchemyError

from airflow_zen.errors import ZenError
from airflow_zen.lineage.ended import FinishedDagRun
from airflow_zen.lineage.mlflow import MlflowRecorder
from airflow_zen.lineage.sync import sync_pending
from airflow_zen.options import load_stacks_file, stack_names
from airflow_zen.plugin.backfills import backfill_summaries
from airflow_zen.plugin.follower import BACKFILL_PREFIX, CATCH_UP_FLAG, EXIT_CODE_PENDING
from airflow_zen.plugin.unheard import missed_ends
from airflow_zen.settings import Settings, open_stack
from airflow_zen.stack import Stack

log = logging.getLogger("airflow_zen.plugin")


def finalize_dag_runs(stack: Stack, runs: Sequence[FinishedDagRun], catch_up: bool = False) -> bool:
    """Keep the ends of DAG runs in mind, deliver what is owed, close and draw; tell whether all is done.

    The ends are kept first: whatever fails after that, the next process finds them. `catch_up` looks for ends
    that nobody heard.
    """
    recorder = stack.lineage
    if isinstance(recorder, MlflowRecorder):
        for run in runs:
            stack.records.put_finished_dag_run(run)
    ends_recorded = not catch_up or _record_missed_ends(stack)
    _print_backfill_totals(runs, stack)
    if not isinstance(recorder, MlflowRecorder):
        return True
    delivery = sync_pending(recorder, stack.records, stack.clock)
    if delivery is None or delivery.failed or not ends_recorded:
        return False
    return not any(True for left in (stack.records.undelivered(), stack.records.finished_dag_runs()) for _ in left)


def _record_missed_ends(stack: Stack) -> bool:
    """Keep in mind the ends that nobody heard; False where MLflow or Airflow's database cannot be asked."""
    if not isinstance(stack.lineage, MlflowRecorder):
        return True
    try:
        for run in missed_ends(stack, stack.lineage):
            stack.records.put_finished_dag_run(run)
    except (ZenError, SQLAlchemyError) as error:
        log.warning("DAG runs whose end nobody heard are looked for later: %s", error)
        return False
    return True


def finalize_in_all_stacks(runs: Sequence[FinishedDagRun], catch_up: bool = False) -> int:
    """Follow up in every stack that is defined, for nobody says in which a DAG run had steps; give the exit code.

    A stack that cannot be reached keeps none of the others from it; the runs are then taken by the next process.
    """
    code = 0
    for name in stack_names(load_stacks_file()):
        try:
            done = finalize_dag_runs(open_stack(Settings.read(name)), runs, catch_up)
        except Exception:
            log.exception("Stack %r could not be followed up.", name)
            code = 1
        else:
            code = code or (0 if done else EXIT_CODE_PENDING)
    return code


def _print_backfill_totals(runs: Sequence[FinishedDagRun], stack: Stack) -> None:
    try:
        for line in backfill_summaries(runs, stack.store.transport):
            sys.stdout.write(f"{line}\n")
    except Exception as error:  # noqa: BLE001 - a remark is never worth the lineage of a DAG run
        sys.stdout.write(f"{BACKFILL_PREFIX}totals could not be read: {error!r}".replace("\n", " ") + "\n")


def main() -> int:
    """Do it at low priority, so that the scheduler beside it keeps its pace."""
    os.nice(10)
    runs = [FinishedDagRun.from_json(document) for document in json.load(sys.stdin)]
    return finalize_in_all_stacks(runs, catch_up=CATCH_UP_FLAG in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
