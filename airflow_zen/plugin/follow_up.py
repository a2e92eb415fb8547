"""The process that follows the end of DAG runs: `python -m airflow_zen.plugin.follow_up`, DAG runs as JSON on stdin."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence

from sqlalchemy.exc import SQLAlchemyError

from airflow_zen.errors import ZenError
from airflow_zen.lineage.ended import EndedDagRun
from airflow_zen.lineage.mlflow import MlflowRecorder
from airflow_zen.lineage.sync import settle
from airflow_zen.options import stack_names, stacks_file
from airflow_zen.plugin.backfills import ended_backfills
from airflow_zen.plugin.follower import CATCH_UP, OWED, TELLS
from airflow_zen.plugin.unheard import unheard_ends
from airflow_zen.settings import Settings, open_stack
from airflow_zen.stack import Stack

log = logging.getLogger("airflow_zen.plugin")


def follow_up(stack: Stack, runs: Sequence[EndedDagRun], catch_up: bool = False) -> bool:
    """Keep the ends of DAG runs in mind, deliver what is owed, close and draw; tell whether all is done.

    The ends are kept first: whatever fails after that, the next process finds them. `catch_up` looks for ends
    that nobody heard.
    """
    recorder = stack.lineage
    if isinstance(recorder, MlflowRecorder):
        for run in runs:
            stack.records.put_ended(run)
    caught_up = not catch_up or _caught_up(stack)
    _tell_of_backfills(runs, stack)
    if not isinstance(recorder, MlflowRecorder):
        return True
    delivery = settle(recorder, stack.records, stack.clock)
    if delivery is None or delivery.failed or not caught_up:
        return False
    return not any(True for left in (stack.records.undelivered(), stack.records.ended()) for _ in left)


def _caught_up(stack: Stack) -> bool:
    """Keep in mind the ends that nobody heard; False where MLflow or Airflow's database cannot be asked."""
    if not isinstance(stack.lineage, MlflowRecorder):
        return True
    try:
        for run in unheard_ends(stack, stack.lineage):
            stack.records.put_ended(run)
    except (ZenError, SQLAlchemyError) as error:
        log.warning("DAG runs whose end nobody heard are looked for later: %s", error)
        return False
    return True


def follow_up_everywhere(runs: Sequence[EndedDagRun], catch_up: bool = False) -> int:
    """Follow up in every stack that is defined, for nobody says in which a DAG run had steps; give the exit code.

    A stack that cannot be reached keeps none of the others from it; the runs are then taken by the next process.
    """
    code = 0
    for name in stack_names(stacks_file()):
        try:
            done = follow_up(open_stack(Settings.read(name)), runs, catch_up)
        except Exception:
            log.exception("Stack %r could not be followed up.", name)
            code = 1
        else:
            code = code or (0 if done else OWED)
    return code


def _tell_of_backfills(runs: Sequence[EndedDagRun], stack: Stack) -> None:
    try:
        for line in ended_backfills(runs, stack.store.transport):
            sys.stdout.write(f"{line}\n")
    except Exception as error:  # noqa: BLE001 - a remark is never worth the lineage of a DAG run
        sys.stdout.write(f"{TELLS}totals could not be read: {error!r}".replace("\n", " ") + "\n")


def main() -> int:
    """Do it at low priority, so that the scheduler beside it keeps its pace."""
    os.nice(10)
    runs = [EndedDagRun.from_json(document) for document in json.load(sys.stdin)]
    return follow_up_everywhere(runs, catch_up=CATCH_UP in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
