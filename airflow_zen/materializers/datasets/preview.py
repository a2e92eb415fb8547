"""Previews of Hugging Face datasets: the first rows of each split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_zen.materializers.previews.page import PREVIEW_HTML, Markup, heading, html_page
from airflow_zen.materializers.previews.tables import (
    MAX_PREVIEW_COLUMNS,
    MAX_PREVIEW_ROWS,
    hidden_columns_note,
    plain_table,
)


def preview_huggingface_dataset(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show a dataset, or each split of a dict of them."""
    splits = value if isinstance(value, dict) else {"": value}
    return {PREVIEW_HTML: html_page(type(value).__qualname__, str(summary.get("shape", "")), _split_sections(splits))}


def _split_sections(splits: Mapping[str, Any]) -> Iterator[Markup]:
    for name, split in splits.items():
        yield heading(f"{name} {split.num_rows} rows")
        # As Arrow holds it: what is formatted as a picture or a tensor is not made into one.
        head = split.with_format("arrow").select_columns(split.column_names[:MAX_PREVIEW_COLUMNS])[:MAX_PREVIEW_ROWS]
        rows = zip(*(head.column(at).to_pylist() for at in range(head.num_columns)), strict=True)
        yield plain_table([f"{column} · {split.features[column]}" for column in head.column_names], rows)
        yield from hidden_columns_note(len(split.column_names) - MAX_PREVIEW_COLUMNS)
