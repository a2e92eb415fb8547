"""Previews of Arrow tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from airflow_zen.materializers.arrow.charts import column_chart
from airflow_zen.materializers.previews.page import PREVIEW_HTML
from airflow_zen.materializers.previews.tables import (
    MAX_PREVIEW_COLUMNS,
    MAX_PREVIEW_ROWS,
    MAX_SAMPLED_VALUE_BYTES,
    ColumnPreview,
    cell_text,
    null_counts,
    sample_rows,
    table_page,
)


def preview_arrow(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show the head of a table or record batch."""
    rows = value.num_rows
    picked = pa.array(sample_rows(rows), pa.int64())
    nulls = null_counts(summary)
    columns = [
        ColumnPreview(
            name=field.name,
            type=str(field.type),
            cells=[_format_scalar(item) for item in value.column(at).slice(0, MAX_PREVIEW_ROWS)],
            chart=column_chart(value.column(at), picked) if _is_narrow(value.column(at)) else None,
            nulls=nulls[at] if at < len(nulls) else None,
        )
        for at, field in enumerate(list(value.schema)[:MAX_PREVIEW_COLUMNS])
    ]
    labels = [str(row) for row in range(min(rows, MAX_PREVIEW_ROWS))]
    shape = str(summary.get("shape", f"{rows} rows"))
    return {
        PREVIEW_HTML: table_page(
            type(value).__qualname__, shape, columns, labels, value.num_columns - MAX_PREVIEW_COLUMNS
        )
    }


def _format_scalar(value: Any) -> str:
    try:
        return cell_text(value.as_py())
    except (ValueError, ImportError):
        return str(value)[:100]  # nanoseconds that Python's own types do not have


def _is_narrow(column: Any) -> bool:
    return bool(column.nbytes <= MAX_SAMPLED_VALUE_BYTES * max(1, len(column)))
