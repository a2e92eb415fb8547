"""Previews of Arrow tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from airflow_zen.materializers.arrow.charts import chart
from airflow_zen.materializers.previews.page import HTML
from airflow_zen.materializers.previews.tables import (
    COLUMNS,
    ROWS,
    WIDEST,
    Column,
    cell,
    nulls_of,
    sampled,
    table_page,
)


def preview(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show the head of a table or record batch."""
    rows = value.num_rows
    picked = pa.array(sampled(rows), pa.int64())
    nulls = nulls_of(summary)
    columns = [
        Column(
            name=field.name,
            type=str(field.type),
            cells=[_cell(item) for item in value.column(at).slice(0, ROWS)],
            chart=chart(value.column(at), picked) if _is_narrow(value.column(at)) else None,
            nulls=nulls[at] if at < len(nulls) else None,
        )
        for at, field in enumerate(list(value.schema)[:COLUMNS])
    ]
    labels = [str(row) for row in range(min(rows, ROWS))]
    shape = str(summary.get("shape", f"{rows} rows"))
    return {HTML: table_page(type(value).__qualname__, shape, columns, labels, value.num_columns - COLUMNS)}


def _cell(value: Any) -> str:
    try:
        return cell(value.as_py())
    except (ValueError, ImportError):
        return str(value)[:100]  # nanoseconds that Python's own types do not have


def _is_narrow(column: Any) -> bool:
    return bool(column.nbytes <= WIDEST * max(1, len(column)))
