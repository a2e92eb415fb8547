"""A step that logs into its MLflow run."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
from airflow.sdk import dag

from airflow_zen import ml_step


@ml_step
def logged(rows: int) -> pd.DataFrame:
    import mlflow

    mlflow.log_metric("rows", rows)
    return pd.DataFrame({"n": range(rows)})


@dag(dag_id="logged", schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def logged_dag():
    logged(rows=3)
