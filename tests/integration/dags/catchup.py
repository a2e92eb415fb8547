"""A pipeline that catches up on the days of a timetable of its own, one after the other."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import dag
from every_other_day import EveryOtherDay

from airflow_zen import ml_step


@ml_step
def of_the_day(day: str) -> str:
    return day


@ml_step
def of_all_days() -> int:
    return 7


@dag(
    dag_id="catchup",
    schedule=EveryOtherDay(),
    start_date=datetime(2026, 1, 1),
    end_date=datetime(2026, 1, 5),
    catchup=True,
    max_active_runs=1,
)
def catchup():
    of_the_day("{{ ds }}")
    of_all_days()


catchup()
