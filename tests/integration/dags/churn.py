"""A small pipeline that uses everything: several outputs, mapping, a model, MLflow's own API, a failure."""

from __future__ import annotations

import logging
import sys
from datetime import datetime

import pandas as pd
from airflow.sdk import dag, task
from sklearn.linear_model import LogisticRegression

import airflow_zen
from airflow_zen import Output, ml_step

IS_PRELOADED = "airflow_zen.operators.execute" in sys.modules


@ml_step
def customers(rows: int) -> Output(train=pd.DataFrame, test=pd.DataFrame):
    table = pd.DataFrame({"age": range(rows), "calls": [n % 7 for n in range(rows)]})
    table["left"] = table["calls"] > 3
    return table[: rows // 2], table[rows // 2 :]


@ml_step(model="churn")
def fit(table: pd.DataFrame, strength: float = 1.0) -> LogisticRegression:
    return LogisticRegression(C=strength).fit(table[["age", "calls"]], table["left"])


@ml_step
def score(model: LogisticRegression, table: pd.DataFrame, offset: int) -> float:
    import mlflow

    accuracy = model.score(table[["age", "calls"]], table["left"]) + offset
    mlflow.log_metric("accuracy", accuracy)
    return accuracy


@ml_step
def best(scores: list[float]) -> float:
    return max(scores)


@task
def look(ref: dict) -> float:
    logging.getLogger(__name__).info("steps are preloaded: %s", IS_PRELOADED)
    return airflow_zen.load(ref)


@dag(dag_id="churn", schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def churn():
    train, test = customers(rows=200)
    look(best(score.partial(model=fit(train), table=test).expand(offset=[0, 1, 2])))


churn()


@ml_step
def broken() -> int:
    raise ValueError("no data today")


@dag(dag_id="broken", schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def broken_dag():
    broken()


broken_dag()
