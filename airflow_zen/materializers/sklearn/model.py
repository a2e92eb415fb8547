"""Estimators to MLflow Model directories and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.materializers.sklearn.mlmodel import MODEL_FILE, write_mlflow_files
from airflow_zen.materializers.sklearn.skops_file import estimator_shape, read_estimator, write_estimator


def save_sklearn_model(estimator: Any, directory: Path) -> Mapping[str, Any]:
    """Write the directory; raises `SaveRefused` for a model that could not be loaded again."""
    trusted = write_estimator(estimator, directory / MODEL_FILE)
    write_mlflow_files(directory, trusted, predicts=hasattr(estimator, "predict"))
    return {"shape": estimator_shape(estimator), "estimator": type(estimator).__qualname__}


def load_sklearn_model(directory: Path) -> Any:
    """Read the estimator; raises `ArtifactRefused` where the file names what is not trusted."""
    return read_estimator(directory / MODEL_FILE)
