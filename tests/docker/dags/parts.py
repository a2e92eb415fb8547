"""Many parts, each computed by whichever worker is free, and their sum; what was called is told outside the store."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime, timedelta

import numpy as np
from airflow.sdk import dag

from airflow_zen import ml_step


def tell(event: str, number: int) -> None:
    """Write down in Redis, which no worker takes along when it dies, what this worker does."""
    from airflow.configuration import conf
    from redis import Redis

    told = {"event": event, "number": number, "worker": os.environ["USER"], "at": time.time()}
    Redis.from_url(conf.get_mandatory_value("celery", "broker_url"), db=1).rpush("told", json.dumps(told))


def linger(context, result):
    """Be slow to end, in every third instance, when the result is stored and remembered but Airflow has not heard of it."""
    number = context["ti"].map_index
    tell("stored", number)
    time.sleep(6 if number % 3 == 0 else 0)


@ml_step(post_execute=linger, retries=5, retry_delay=timedelta(seconds=1))
def part(number: int) -> np.ndarray:
    tell("called", number)
    time.sleep(0.5)
    return np.random.default_rng(number).standard_normal(10_000)


@ml_step(queue="sums", retries=5, retry_delay=timedelta(seconds=1))
def total(parts: list[np.ndarray]) -> dict[str, float]:
    tell("called", -1)
    return {"parts": float(len(parts)), "sum": float(sum(part.sum() for part in parts))}


def parts(count: int):
    @dag(dag_id=f"parts_{count}", schedule=None, start_date=datetime(2026, 1, 1), catchup=False, max_active_tasks=64)
    def many():
        total(part.expand(number=list(range(count))))

    many()


parts(30)
parts(200)
