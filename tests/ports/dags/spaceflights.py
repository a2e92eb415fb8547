"""Predict the price of a shuttle to the moon, from tables of companies, shuttles and reviews."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import pandas as pd
from airflow.sdk import dag
from sklearn.linear_model import LinearRegression
from sklearn.metrics import max_error, mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split

from airflow_zen import Artifact, Cache, Output, ml_step

FEATURES = [
    "engines",
    "passenger_capacity",
    "crew",
    "d_check_complete",
    "moon_clearance_complete",
    "iata_approved",
    "company_rating",
    "review_scores_rating",
]

log = logging.getLogger(__name__)


def is_true(column: pd.Series) -> pd.Series:
    return column == "t"


def number(column: pd.Series) -> pd.Series:
    return column.str.replace(r"[$,%]", "", regex=True).astype(float)


@ml_step(cache=Cache(files=("data/*.csv",)))
def read_table(name: str) -> pd.DataFrame:
    return pd.read_csv(Path(__file__).parent / "data" / f"{name}.csv")


@ml_step
def preprocess_companies(companies: pd.DataFrame) -> pd.DataFrame:
    return companies.assign(
        iata_approved=is_true(companies["iata_approved"]), company_rating=number(companies["company_rating"]) / 100
    )


@ml_step
def preprocess_shuttles(shuttles: pd.DataFrame) -> pd.DataFrame:
    checks = ["d_check_complete", "moon_clearance_complete"]
    return shuttles.assign(price=number(shuttles["price"]), **{name: is_true(shuttles[name]) for name in checks})


@ml_step
def join_tables(
    shuttles: pd.DataFrame, companies: pd.DataFrame, reviews: pd.DataFrame
) -> Annotated[pd.DataFrame, Artifact("spaceflights/model_input")]:
    rated = shuttles.merge(reviews, left_on="id", right_on="shuttle_id").drop(columns="id")
    return rated.merge(companies, left_on="company_id", right_on="id").dropna()


@ml_step
def split(table: pd.DataFrame, features: list[str], test_size: float, seed: int) -> Output(
    x_train=pd.DataFrame, x_test=pd.DataFrame, y_train=pd.Series, y_test=pd.Series
):
    return train_test_split(table[features], table["price"], test_size=test_size, random_state=seed)


@ml_step(model="spaceflights_price")
def train(x_train: pd.DataFrame, y_train: pd.Series) -> LinearRegression:
    return LinearRegression().fit(x_train, y_train)


@ml_step
def evaluate(model: LinearRegression, x_test: pd.DataFrame, y_test: pd.Series) -> dict[str, float]:
    import mlflow

    predicted = model.predict(x_test)
    metrics = {
        "r2": r2_score(y_test, predicted),
        "mae": mean_absolute_error(y_test, predicted),
        "max_error": max_error(y_test, predicted),
    }
    mlflow.log_metrics(metrics)
    log.info("R² on the test data: %.3f", metrics["r2"])
    return metrics


@dag(schedule=None)
def spaceflights():
    companies, shuttles, reviews = (
        read_table.override(task_id=name)(name) for name in ("companies", "shuttles", "reviews")
    )
    table = join_tables(preprocess_shuttles(shuttles), preprocess_companies(companies), reviews)
    x_train, x_test, y_train, y_test = split(table, FEATURES, test_size=0.2, seed=3)
    evaluate(train(x_train, y_train), x_test, y_test)


spaceflights()
