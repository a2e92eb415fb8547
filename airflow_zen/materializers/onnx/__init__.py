"""ONNX models as plain MLflow Model directories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import Materializer


class OnnxMaterializer(Materializer):
    """Save an `onnx.ModelProto` as its own file, the way `mlflow.onnx.save_model` lays it out.

    Refused: a model over 2 GB, or one whose tensors lie in other files.
    """

    types = ("onnx.ModelProto",)
    encoding = "onnx.mlflow@1"
    libraries = ("onnx",)
    extra = "onnx"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `MLmodel`, `model.onnx` and the environment."""
        from airflow_zen.materializers.onnx.model import save_onnx_model

        return save_onnx_model(value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show inputs, outputs and operators."""
        from airflow_zen.materializers.onnx.preview import preview_onnx_model

        return preview_onnx_model(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the model."""
        from airflow_zen.materializers.onnx.model import load_onnx_model

        return load_onnx_model(directory)
