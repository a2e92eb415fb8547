"""The least that uses everything: a table, a model, MLflow, and a task that reads what another worker stored."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
from airflow.sdk import dag
from sklearn.linear_model import LogisticRegression

from airflow_zen import ml_step


@ml_step
def customers(rows: int) -> pd.DataFrame:
    table = pd.DataFrame({"calls": [n % 7 for n in range(rows)]})
    return table.assign(left=table["calls"] > 3)


@ml_step(model="small")
def fit(table: pd.DataFrame) -> LogisticRegression:
    return LogisticRegression().fit(table[["calls"]], table["left"])


@dag(dag_id="small", schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def small():
    fit(customers(rows=100))


small()
