"""A DAG that trains and promotes a model after an approval, and one that predicts when the champion has changed."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import numpy as np
import pandas as pd
from airflow.sdk import dag, task
from sklearn.linear_model import LinearRegression

import airflow_zen
from airflow_zen import Artifact, Better, Model, ml_step, predict, promote

CHAMPION = Model("delay@champion")


@ml_step
def flights() -> Annotated[pd.DataFrame, Artifact("delay/flights")]:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(300, 2)), columns=["x", "noise"])
    return frame.assign(delay=2 * frame["x"] + generator.normal(size=300))


@ml_step(model=Model("delay", description="Minutes of delay."))
def fit(table: pd.DataFrame, column: str) -> LinearRegression:
    return LinearRegression().fit(table[[column]], table["delay"])


@dag(dag_id="train_delay", schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def train_delay():
    table = flights()
    model = fit(table, "{{ dag_run.conf['column'] }}")
    gates = [Better("rmse", by=0.1)]
    promote("delay", if_=gates, candidate=model, table=table, target="delay", approval=True, task_id="promote")


train_delay()


@task
def look(ref: dict) -> str:
    return airflow_zen.load(ref)


@task
def told(triggering_asset_events) -> list:
    return [event.extra for events in triggering_asset_events.values() for event in events]


@ml_step
def first(predictions: pd.DataFrame, model: Annotated[Any, CHAMPION]) -> str:
    assert len(predictions) == 300
    return str(model.feature_names_in_[0])


# Airflow watches for DAGs that are not paused when their file is parsed.
@dag(
    dag_id="predict_delay",
    schedule=CHAMPION.watched(poll_interval=1),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    is_paused_upon_creation=False,
)
def predict_delay():
    told()
    look(first(predict(CHAMPION, Artifact("delay/flights").latest(), parts=2)))


predict_delay()
