"""Steps, and DAGs of them, for the tests of operators."""

from datetime import datetime

import pandas as pd
from airflow.sdk import dag

from airflow_zen import Output, ml_step
from tests.calls import record_call


def pipeline(build, dag_id="d", **options):
    @dag(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1), **options)
    def d():
        build()

    return d()


@ml_step
def frame(rows: int) -> pd.DataFrame:
    record_call(("frame", rows))
    return pd.DataFrame({"a": range(rows)})


@ml_step
def halves(table: pd.DataFrame) -> Output(left=pd.DataFrame, right=pd.DataFrame):
    middle = len(table) // 2
    return table[:middle], table[middle:]


@ml_step
def total(tables: list[pd.DataFrame]) -> int:
    return sum(len(table) for table in tables)
