"""Previews of ONNX models: inputs, outputs and operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import onnx

from airflow_zen.materializers.previews.page import PREVIEW_HTML, Markup, heading, html_page
from airflow_zen.materializers.previews.tables import plain_table

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
    tensor = held.tensor_type
    dims = ", ".join(dim.dim_param or str(dim.dim_value or "?") for dim in tensor.shape.dim)
    return f"{onnx.TensorProto.DataType.Name(tensor.elem_type).lower()} [{dims}]"
