"""Prepare a table of tumors, train two classifiers on it, promote the better one, and apply it to new tumors."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from airflow.sdk import dag
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler

from airflow_zen import Artifact, Output, artifact, ml_step

TARGET = "benign"
TRAIN, TEST = Artifact("breast_cancer/train"), Artifact("breast_cancer/test")
PREPROCESSING, BEST = Artifact("breast_cancer/preprocessing"), Artifact("breast_cancer/best")


class Stateless(TransformerMixin, BaseEstimator):
    """A transformer that learns nothing."""

    def fit(self, table, y=None):
        return self

    def __sklearn_is_fitted__(self):
        return True


class NADropper(Stateless):
    """Drop rows with missing values."""

    def transform(self, table):
        return table.dropna()


class ColumnsDropper(Stateless):
    """Drop columns by name."""

    def __init__(self, columns):
        self.columns = columns

    def transform(self, table):
        return table.drop(columns=self.columns)


class DataFrameCaster(Stateless):
    """Make an array a table again, with the columns that the pipeline was fitted on."""

    def __init__(self, columns):
        self.columns = columns

    def transform(self, values):
        return pd.DataFrame(values, columns=self.columns)


@ml_step
def load_tumors(part: str, seed: int) -> pd.DataFrame:
    """Read the tumors to learn from (`known`), or those without a diagnosis (`new`); a few measurements are missing."""
    data = load_breast_cancer(as_frame=True)
    table = data.data.assign(**{TARGET: data.target}).sample(frac=1, random_state=seed).reset_index(drop=True)
    missing = np.random.default_rng(seed).random(data.data.shape) < 0.001
    table[data.data.columns] = table[data.data.columns].mask(missing)
    return table[50:] if part == "known" else table[:50].drop(columns=TARGET)


@ml_step
def split(table: pd.DataFrame, test_size: float, seed: int) -> Output(train=pd.DataFrame, test=pd.DataFrame):
    return train_test_split(table, test_size=test_size, random_state=seed)


@ml_step
def preprocess(train: pd.DataFrame, test: pd.DataFrame, drop_columns: list[str]) -> Output(
    train=Annotated[pd.DataFrame, TRAIN],
    test=Annotated[pd.DataFrame, TEST],
    pipeline=Annotated[Pipeline, PREPROCESSING],
):
    """Fit the preprocessing on `train`, and apply it to both tables."""
    pipeline = Pipeline(
        [
            ("drop_na", NADropper()),
            ("drop_columns", ColumnsDropper(drop_columns)),
            ("scale", MinMaxScaler()),
            ("cast", DataFrameCaster([name for name in train.columns if name not in drop_columns])),
        ]
    )
    return pipeline.fit_transform(train), pipeline.transform(test), pipeline


@ml_step
def train(table: pd.DataFrame, kind: str) -> ClassifierMixin:
    model = SGDClassifier(random_state=17) if kind == "sgd" else RandomForestClassifier(max_depth=3, random_state=17)
    return model.fit(table.drop(columns=TARGET), table[TARGET])


@ml_step
def evaluate(model: ClassifierMixin, table: pd.DataFrame) -> float:
    import mlflow

    accuracy = model.score(table.drop(columns=TARGET), table[TARGET])
    mlflow.log_metric("accuracy", accuracy)
    return accuracy


@ml_step(model="breast_cancer")
def best(models: list[ClassifierMixin], accuracies: list[float]) -> Annotated[ClassifierMixin, BEST]:
    return models[int(np.argmax(accuracies))]


@ml_step(cache=False)
def promote(model: ClassifierMixin, table: pd.DataFrame) -> bool:
    """Move the alias `production` to the newest version, unless that in production is at least as good."""
    from mlflow import MlflowClient, sklearn
    from mlflow.exceptions import MlflowException

    x, y = table.drop(columns=TARGET), table[TARGET]
    try:
        if sklearn.load_model("models:/breast_cancer@production").score(x, y) >= model.score(x, y):
            return False
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
    client = MlflowClient()
    newest = max(int(version.version) for version in client.search_model_versions("name = 'breast_cancer'"))
    client.set_registered_model_alias("breast_cancer", "production", str(newest))
    artifact("breast_cancer/best").tag("production")
    return True


@ml_step
def predict(model: ClassifierMixin, preprocessing: Pipeline, tumors: pd.DataFrame) -> pd.Series:
    table = preprocessing.transform(tumors.assign(**{TARGET: 1})).drop(columns=TARGET)
    return pd.Series(model.predict(table), index=tumors.dropna().index, name=TARGET)


@dag(schedule="@daily")
def breast_cancer_features():
    train_rows, test_rows = split(load_tumors("known", seed=42), test_size=0.2, seed=42)
    preprocess(train_rows, test_rows, drop_columns=["worst symmetry"])


@dag(schedule=[TRAIN.asset])
def breast_cancer_training():
    test = TEST.latest()
    models = train.partial(table=TRAIN.latest()).expand(kind=["sgd", "forest"])
    promote(best(models, evaluate.partial(table=test).expand(model=models)), test)


@dag(schedule=None)
def breast_cancer_inference():
    predict(BEST.version("production"), PREPROCESSING.latest(), load_tumors("new", seed=42))


breast_cancer_features()
breast_cancer_training()
breast_cancer_inference()
