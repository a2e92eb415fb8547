"""ONNX models as MLflow Model directories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.base import installed_version
from airflow_zen.materializers.mlflow_model import ModelMaterializer, WrittenModel
from airflow_zen.materializers.previews.html import Markup, heading
from airflow_zen.materializers.previews.tables import plain_table

MODEL_FILE = "model.onnx"

_MAX_ROWS = 100


class OnnxMaterializer(ModelMaterializer):
    """Save an `onnx.ModelProto` as its own file, in the layout of `mlflow.onnx.save_model`.

    Refused: a model over 2 GB, or one whose tensors are in other files.
    """

    types = ("onnx.ModelProto",)
    encoding = "onnx.mlflow@2"
    reads = ("onnx.mlflow@1",)
    libraries = ("onnx",)
    extra = "onnx"
    requirements = ("numpy", "onnx", "onnxruntime", "pandas")

    def write(self, model: Any, directory: Path) -> WrittenModel:
        """Write `model.onnx`; raises `SaveRefused` for a model that is not one file."""
        (directory / MODEL_FILE).write_bytes(_serialize(model))
        flavor = {
            "code": None,
            "data": MODEL_FILE,
            "onnx_session_options": None,
            "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"],
        }
        made_with = {"onnx_version": installed_version("onnx")}
        return WrittenModel(f"{len(model.graph.node)} nodes", flavor, {"data": MODEL_FILE}, made_with=made_with)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the model; its file holds every tensor."""
        import onnx

        return onnx.load(directory / MODEL_FILE, load_external_data=False)

    def model_name(self, model: Any) -> str:
        """Return the name of the graph."""
        return str(model.graph.name)

    def sections(self, model: Any) -> Iterator[Markup]:
        """Return the inputs and outputs, and how often each operator is used."""
        graph = model.graph
        yield heading("Inputs and outputs")
        ends = [("input", held) for held in graph.input] + [("output", held) for held in graph.output]
        rows = [(kind, held.name, _type_text(held.type)) for kind, held in ends[:_MAX_ROWS]]
        yield plain_table(["", "name", "type"], rows)
        yield heading("Operators")
        counts = Counter(f"{node.domain}.{node.op_type}".lstrip(".") for node in graph.node)
        yield plain_table(["operator", "times"], counts.most_common(_MAX_ROWS))


def _serialize(model: Any) -> bytes:
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    if any(uses_external_data(tensor) for tensor in _get_all_tensors(model)):
        raise SaveRefused(
            "An ONNX model whose tensors are in other files would lose them. Load it with load_external_data=True."
        )
    try:
        return bytes(model.SerializeToString(deterministic=True))
    except Exception as error:
        raise SaveRefused(
            f"This ONNX model has no file of its own ({error}). A file holds 2 GB at most. Call pathlib.Path('model').mkdir(), "
            "onnx.save_model(model, 'model/model.onnx', save_as_external_data=True) and return pathlib.Path('model')."
        ) from error


def _type_text(held: Any) -> str:
    import onnx

    tensor = held.tensor_type
    dims = ", ".join(dim.dim_param or str(dim.dim_value or "?") for dim in tensor.shape.dim)
    return f"{onnx.TensorProto.DataType.Name(tensor.elem_type).lower()} [{dims}]"
