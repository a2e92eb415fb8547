"""Many small steps in a task: in batches, and in a fused group. The first try of a task is killed in one of its steps."""

from __future__ import annotations

import os
import signal
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import dag, task

import airflow_zen
from airflow_zen import fused, ml_step


def die_at_first(ti: Any) -> None:
    if ti.try_number == 1:
        os.kill(os.getpid(), signal.SIGKILL)


@ml_step(retries=1, retry_delay=timedelta(0))
def trial(depth: int, ti: Any) -> int:
    import mlflow

    mlflow.log_metric("depth", depth)
    if depth == 4:
        die_at_first(ti)
    return depth


@ml_step
def collect(trials: list[int]) -> list[int]:
    return trials


@task
def look(ref: dict) -> list:
    return airflow_zen.load(ref)


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def in_batches():
    look(collect(trial.expand(depth=list(range(6)), batch=3)))


in_batches()


@ml_step
def number() -> int:
    return 20


@ml_step
def double(value: int, ti: Any) -> int:
    die_at_first(ti)
    return value * 2


@ml_step
def plus_two(value: int) -> int:
    return value + 2


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def in_a_group():
    with fused("prepare", retries=1, retry_delay=timedelta(0)):
        plus_two(double(number()))


in_a_group()
