"""ONNX models as plain MLflow Model directories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.mlflow_model import pyfunc_flavor, write_environment, write_mlmodel
from airflow_zen.materializers.previews.html import PREVIEW_HTML, Markup, heading, html_page
from airflow_zen.materializers.previews.tables import plain_table

if TYPE_CHECKING:
    import onnx


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
        return save_onnx_model(value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show inputs, outputs and operators."""
        return preview_onnx_model(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the model."""
        return load_onnx_model(directory)


MODEL_FILE = "model.onnx"
EXECUTION_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


def save_onnx_model(model: onnx.ModelProto, directory: Path) -> Mapping[str, Any]:
    """Write the directory; raises `SaveRefused` for a model that is not one file."""
    import onnx
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

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
    import onnx

    return onnx.load(directory / MODEL_FILE, load_external_data=False)


_MAX_ROWS = 100


def preview_onnx_model(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show a model's graph."""
    return {
        PREVIEW_HTML: html_page(
            str(value.graph.name or "ModelProto"), str(summary.get("shape", "")), _graph_sections(value.graph)
        )
    }


def _graph_sections(graph: Any) -> Iterator[Markup]:
    yield heading("Inputs and outputs")
    ends = [("input", held) for held in graph.input] + [("output", held) for held in graph.output]
    yield plain_table(
        ["", "name", "type"], [(kind, held.name, _type_text(held.type)) for kind, held in ends[:_MAX_ROWS]]
    )
    yield heading("Operators")
    counts = Counter(f"{node.domain}.{node.op_type}".lstrip(".") for node in graph.node)
    yield plain_table(["operator", "times"], counts.most_common(_MAX_ROWS))


def _type_text(held: Any) -> str:
    import onnx

    tensor = held.tensor_type
    dims = ", ".join(dim.dim_param or str(dim.dim_value or "?") for dim in tensor.shape.dim)
    return f"{onnx.TensorProto.DataType.Name(tensor.elem_type).lower()} [{dims}]"
