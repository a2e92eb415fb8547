"""Search the learning rate and the momentum of a network that rates wines; each trial is a nested run of MLflow."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import mlflow
import numpy as np
import pandas as pd
from airflow.sdk import dag
from sklearn.base import RegressorMixin
from sklearn.dummy import DummyRegressor
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from airflow_zen import Output, ml_step

TARGET = "quality"


@ml_step
def taste(rows: int, seed: int) -> pd.DataFrame:
    """Make measurements of wines, and the grades of their tasters."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "alcohol": rng.normal(10.5, 1.2, rows),
            "sulphates": rng.gamma(12, 0.05, rows),
            "volatile_acidity": rng.gamma(6, 0.08, rows),
            "residual_sugar": rng.lognormal(0.8, 0.4, rows),
        }
    )
    grade = 5.6 + 0.5 * (table["alcohol"] - 10.5) - 1.6 * (table["volatile_acidity"] - 0.5) ** 2 + table["sulphates"]
    return table.assign(quality=(grade + rng.normal(0, 0.4, rows)).round().clip(3, 9))


@ml_step
def split(table: pd.DataFrame, seed: int) -> Output(train=pd.DataFrame, valid=pd.DataFrame, test=pd.DataFrame):
    train, rest = train_test_split(table, test_size=0.4, random_state=seed)
    valid, test = train_test_split(rest, test_size=0.5, random_state=seed)
    return train, valid, test


def rmse(model: RegressorMixin, table: pd.DataFrame) -> float:
    return root_mean_squared_error(table[TARGET], model.predict(table.drop(columns=TARGET)))


def fit_trial(number: int, params: dict[str, float], tables: dict[str, pd.DataFrame], epochs: int, seed: int):
    """Fit one model in a run of its own; return the run's id and the model."""
    x, y = tables["train"].drop(columns=TARGET), tables["train"][TARGET]
    network = MLPRegressor(hidden_layer_sizes=(16,), solver="sgd", max_iter=epochs, random_state=seed, **params)
    with mlflow.start_run(run_name=f"trial {number}", nested=True) as run:
        mlflow.log_params(params)
        model = make_pipeline(StandardScaler(), network).fit(x, y)
        for epoch, loss in enumerate(network.loss_curve_):
            mlflow.log_metric("loss", loss, step=epoch)
        mlflow.log_metrics({f"{part}_rmse": rmse(model, table) for part, table in tables.items()})
    return run.info.run_id, model


@ml_step(model="wine_quality")
def search(
    train: pd.DataFrame, valid: pd.DataFrame, test: pd.DataFrame, trials: int, epochs: int, seed: int
) -> Pipeline:
    """Try random parameters, and return the model with the smallest error on `valid`."""
    mlflow.set_experiment("wine quality")
    tables = {"train": train, "valid": valid, "test": test}
    rng = np.random.default_rng(seed)
    drawn = [{"learning_rate_init": 10 ** rng.uniform(-4, -1), "momentum": rng.uniform(0, 0.95)} for _ in range(trials)]
    with mlflow.start_run() as parent:
        mean = DummyRegressor().fit(train.drop(columns=TARGET), train[TARGET])
        mlflow.log_metrics({f"baseline_{part}_rmse": rmse(mean, table) for part, table in tables.items()})
        with ThreadPoolExecutor(4) as pool:
            models = dict(pool.map(lambda trial: fit_trial(*trial, tables, epochs, seed), enumerate(drawn)))
        best = mlflow.search_runs(
            [parent.info.experiment_id],
            f"tags.mlflow.parentRunId = '{parent.info.run_id}'",
            order_by=["metrics.valid_rmse"],
            max_results=1,
        ).iloc[0]
        mlflow.set_tag("best_run", best["run_id"])
        mlflow.log_metrics({f"{part}_rmse": best[f"metrics.{part}_rmse"] for part in tables})
    return models[best["run_id"]]


@dag(schedule=None)
def wine_quality():
    train, valid, test = split(taste(rows=600, seed=7), seed=13)
    search(train, valid, test, trials=6, epochs=12, seed=97)


wine_quality()
