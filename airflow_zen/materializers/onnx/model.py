"""ONNX models to MLflow Model directories and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx.external_data_helper import _get_all_tensors, uses_external_data

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.mlmodel import pyfunc_flavor, write_environment, write_mlmodel

MODEL_FILE = "model.onnx"
EXECUTION_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


def save_onnx_model(model: onnx.ModelProto, directory: Path) -> Mapping[str, Any]:
    """Write the directory; raises `SaveRefused` for a model that is not one file."""
    if any(uses_external_data(tensor) for tensor in _get_all_tensors(model)):
        raise SaveRefused(
            "An ONNX model whose tensors lie in other files would lose them. Load it with load_external_data=True."
        )
    try:
        content = model.SerializeToString(deterministic=True)
    except Exception as error:
        raise SaveRefused(f"This ONNX model has no file of its own ({error}). A file holds 2 GB at most.") from error
    (directory / MODEL_FILE).write_bytes(content)
    flavor = {
        "code": None,
        "data": MODEL_FILE,
        "onnx_version": onnx.__version__,
        "onnx_session_options": None,
        "providers": list(EXECUTION_PROVIDERS),
    }
    loader = pyfunc_flavor("mlflow.onnx", data=MODEL_FILE)
    write_mlmodel(directory, {"onnx": flavor, "python_function": loader})
    write_environment(directory, ("numpy", "onnx", "onnxruntime", "pandas"))
    return {"shape": f"{len(model.graph.node)} nodes", "estimator": model.graph.name}


def load_onnx_model(directory: Path) -> onnx.ModelProto:
    """Read the model; every tensor is in it."""
    return onnx.load(directory / MODEL_FILE, load_external_data=False)
