"""Find rows that only one of two stored tables has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from airflow_zen.artifacts.difference import RowDiff
from airflow_zen.artifacts.source import ArtifactReader
from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.registry import MaterializerRegistry
from airflow_zen.materializers.views import View

MAX_COMPARED_ROWS = 100_000

StoredArtifact = tuple[ArtifactReader, str]
Row = Mapping[str, Any]


def differing_rows(
    registry: MaterializerRegistry, before: StoredArtifact, after: StoredArtifact, limit: int
) -> RowDiff:
    """Give at most `limit` rows that only one side has, whatever their order; a row that stands twice counts twice.

    Rows are compared by the columns that both have. Of each table the first 100,000 rows are read. Raises
    `ArtifactRefused` for what is no table.
    """
    (old, old_names), (new, new_names) = _read_rows(registry, before), _read_rows(registry, after)
    shared_names = [name for name in old_names if name in new_names]
    return RowDiff(
        tuple(_unmatched_rows(old, new, shared_names, limit)),
        tuple(_unmatched_rows(new, old, shared_names, limit)),
        max(len(old), len(new)),
    )


def _read_rows(registry: MaterializerRegistry, artifact: StoredArtifact) -> tuple[list[Row], list[str]]:
    source, encoding = artifact
    view = View(pa.RecordBatch, batches=True)
    if not registry.is_partial_view(encoding, view):
        raise ArtifactRefused(f"Rows are compared of tables only, and {encoding} is none. Leave the rows out.")
    rows: list[Row] = []
    names: list[str] = []
    for batch in registry.load_view(source, encoding, view):
        names = list(batch.schema.names)
        rows += batch.slice(0, MAX_COMPARED_ROWS - len(rows)).to_pylist()
        if len(rows) >= MAX_COMPARED_ROWS:
            break
    return rows, names


def _unmatched_rows(rows: Iterable[Row], others: Iterable[Row], names: list[str], limit: int) -> list[Row]:
    """Give the rows that stand here more often than there."""
    remaining = Counter(_row_key(row, names) for row in others)
    found: list[Row] = []
    for row in rows:
        key = _row_key(row, names)
        if remaining[key]:
            remaining[key] -= 1
        elif len(found) < limit:
            found.append(row)
    return found


def _row_key(row: Row, names: list[str]) -> str:
    """Write a row as text, in which NaN is equal to itself, and lists and structs can be counted."""
    return repr([row[name] for name in names])
