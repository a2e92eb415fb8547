"""What a manifest says about a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MAX_SUMMARY_COLUMNS = 500


def summarize_table(rows: int, columns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise a table; of more than 500 columns the rest is only counted."""
    count = len(columns)
    shape = f"{rows} {_plural(rows, 'row')} × {count} {_plural(count, 'column')}"
    summary: dict[str, Any] = {"shape": shape, "rows": rows, "columns": list(columns[:MAX_SUMMARY_COLUMNS])}
    if count > MAX_SUMMARY_COLUMNS:
        summary["columns_not_listed"] = count - MAX_SUMMARY_COLUMNS
    return summary


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"
