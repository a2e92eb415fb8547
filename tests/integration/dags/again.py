"""A step whose first try fails, and whose second does not."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import dag

from airflow_zen import ml_step


@ml_step(retries=1, retry_delay=timedelta(0), cache=False)
def stubborn(ti: Any) -> int:
    print(f"this is try {ti.try_number}")
    if ti.try_number == 1:
        raise ValueError("not at once")
    return 42


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def again():
    stubborn()


again()
