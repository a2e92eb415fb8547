"""A pipeline with one partition a day, of which some are alike."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import dag

from airflow_zen import ml_step


@ml_step
def weekday(day: str) -> int:
    return datetime.fromisoformat(day).weekday()


@ml_step
def weekend(number: int) -> bool:
    return number > 4


@dag(dag_id="daily", schedule="@daily", start_date=datetime(2026, 1, 1), catchup=False)
def daily():
    weekend(weekday("{{ ds }}"))


daily()
