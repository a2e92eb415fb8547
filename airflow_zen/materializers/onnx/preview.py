"""Previews of ONNX models: inputs, outputs and operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import onnx

from airflow_zen.materializers.previews.page import HTML, Markup, heading, page
from airflow_zen.materializers.previews.tables import plain_table

_MOST = 100


def preview(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show a model's graph."""
    return {HTML: page(str(value.graph.name or "ModelProto"), str(summary.get("shape", "")), _sections(value.graph))}


def _sections(graph: Any) -> Iterator[Markup]:
    yield heading("Inputs and outputs")
    ends = [("input", held) for held in graph.input] + [("output", held) for held in graph.output]
    yield plain_table(["", "name", "type"], [(kind, held.name, _type(held.type)) for kind, held in ends[:_MOST]])
    yield heading("Operators")
    counts = Counter(f"{node.domain}.{node.op_type}".lstrip(".") for node in graph.node)
    yield plain_table(["operator", "times"], counts.most_common(_MOST))


def _type(held: Any) -> str:
    tensor = held.tensor_type
    dims = ", ".join(dim.dim_param or str(dim.dim_value or "?") for dim in tensor.shape.dim)
    return f"{onnx.TensorProto.DataType.Name(tensor.elem_type).lower()} [{dims}]"
