"""Many parts, each computed by whichever worker is free, and their sum; what was called is told outside the store."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime, timedelta

import numpy as np
from airflow.sdk import dag

from airflow_zen import ml_step


def told():
    """Open what no worker takes along when it dies."""
    from airflow.configuration import conf
    from redis import Redis

    return Redis.from_url(conf.get_mandatory_value("celery", "broker_url"), db=1, decode_responses=True)


def tell(event: str, number: int) -> None:
    """Write down what this worker does; where it is to be lost, stay there as its first until it is."""
    redis, worker = told(), os.environ["USER"]
    redis.rpush("told", json.dumps({"event": event, "number": number, "worker": worker, "at": time.time()}))
    if redis.get("victim") == worker and redis.set(f"stays {event}", number, nx=True):
        while redis.get("victim"):
            time.sleep(0.1)


def remembered(context, result):
    """Report that the result is stored and in the cache, before Airflow knows it."""
    tell("stored", context["ti"].map_index)


@ml_step(post_execute=remembered, retries=5, retry_delay=timedelta(seconds=1))
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


parts(16)
parts(200)
