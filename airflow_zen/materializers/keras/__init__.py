"""Keras 3 models as plain MLflow Model directories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import Materializer


class KerasMaterializer(Materializer):
    """Save a model with its weights, optimizer and compilation, the way `mlflow.keras.save_model` lays it out.

    Refused: lambdas, and own layers or functions that Keras cannot find again (use
    `keras.saving.register_keras_serializable`).
    """

    types = ("keras.Model",)
    encoding = "keras.mlflow@1"
    libraries = ("keras", "tensorflow", "tensorflow-cpu", "torch", "jax")
    extra = "tensorflow"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `MLmodel`, `data/model.keras` and the environment."""
        from airflow_zen.materializers.keras.model import save_keras_model

        return save_keras_model(value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the layers."""
        from airflow_zen.materializers.keras.preview import preview_keras_model

        return preview_keras_model(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the model, without running code that lies in it."""
        from airflow_zen.materializers.keras.model import load_keras_model

        return load_keras_model(directory)
