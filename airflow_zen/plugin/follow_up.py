"""The process that follows the end of DAG runs: `python -m airflow_zen.plugin.follow_up`, DAG runs as JSON on stdin."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from airflow_zen.lineage.ended import EndedDagRun
from airflow_zen.lineage.mlflow import MlflowRecorder
from airflow_zen.lineage.sync import settle
from airflow_zen.plugin.backfills import ended_backfills
from airflow_zen.plugin.follower import OWED
from airflow_zen.settings import open_stack
from airflow_zen.stack import Stack


def follow_up(stack: Stack, runs: Sequence[EndedDagRun]) -> bool:
    """Keep the ends of DAG runs in mind, deliver what is owed, close and draw; tell whether all is done."""
    if not isinstance(stack.lineage, MlflowRecorder):
        return True
    for run in runs:
        stack.records.put_ended(run)
    delivery = settle(stack.lineage, stack.records, stack.clock)
    if delivery is None:
        return False
    return not delivery.failed and not any(True for _ in stack.records.ended())


def main() -> int:
    """Do it at low priority, so that the scheduler beside it keeps its pace."""
    os.nice(10)
    runs = [EndedDagRun.from_json(document) for document in json.load(sys.stdin)]
    stack = open_stack()
    for line in ended_backfills(runs, stack.store.transport):
        sys.stdout.write(f"{line}\n")
    return 0 if follow_up(stack, runs) else OWED


if __name__ == "__main__":
    sys.exit(main())
