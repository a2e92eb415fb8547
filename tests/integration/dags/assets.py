"""One DAG that makes a named artifact, and one that starts when its content is new."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from airflow.sdk import dag, task

from airflow_zen import Artifact, ml_step

NUMBERS = Artifact("numbers/daily")


@ml_step
def numbers(count: str, salt: str) -> Annotated[list, NUMBERS]:
    return list(range(int(count)))


@dag(dag_id="produce", schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def produce():
    numbers("{{ dag_run.conf['count'] }}", "{{ dag_run.conf.get('salt', '') }}")


produce()


@ml_step
def total(values: list) -> int:
    return sum(values)


@task
def told(triggering_asset_events) -> list:
    return [event.extra for event in triggering_asset_events[NUMBERS.asset]]


@dag(dag_id="consume", schedule=[NUMBERS.asset], start_date=datetime(2026, 1, 1), catchup=False)
def consume():
    total(NUMBERS.latest())
    told()


consume()
