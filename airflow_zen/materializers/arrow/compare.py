"""Find rows that only one of two stored tables has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from airflow_zen.artifacts.difference import DifferingRows
from airflow_zen.artifacts.source import ArtifactSource
from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.registry import MaterializerRegistry
from airflow_zen.materializers.views import View

MOST_COMPARED = 100_000

Stored = tuple[ArtifactSource, str]
Row = Mapping[str, Any]


def differing_rows(registry: MaterializerRegistry, before: Stored, after: Stored, most: int) -> DifferingRows:
    """Give at most `most` rows that only one side has, whatever their order; a row that stands twice counts twice.

    Rows are compared by the columns that both have. Of each table the first 100,000 rows are read. Raises
    `ArtifactRefused` for what is no table.
    """
    (old, old_names), (new, new_names) = _rows(registry, before), _rows(registry, after)
    both = [name for name in old_names if name in new_names]
    return DifferingRows(
        tuple(_surplus(old, new, both, most)), tuple(_surplus(new, old, both, most)), max(len(old), len(new))
    )


def _rows(registry: MaterializerRegistry, stored: Stored) -> tuple[list[Row], list[str]]:
    source, encoding = stored
    view = View(pa.RecordBatch, batches=True)
    if not registry.reads_part(encoding, view):
        raise ArtifactRefused(f"Rows are compared of tables only, and {encoding} is none. Leave the rows out.")
    rows: list[Row] = []
    names: list[str] = []
    for batch in registry.load_view(source, encoding, view):
        names = list(batch.schema.names)
        rows += batch.slice(0, MOST_COMPARED - len(rows)).to_pylist()
        if len(rows) >= MOST_COMPARED:
            break
    return rows, names


def _surplus(rows: Iterable[Row], others: Iterable[Row], names: list[str], most: int) -> list[Row]:
    """Give the rows that stand here more often than there."""
    left = Counter(_key(row, names) for row in others)
    found: list[Row] = []
    for row in rows:
        key = _key(row, names)
        if left[key]:
            left[key] -= 1
        elif len(found) < most:
            found.append(row)
    return found


def _key(row: Row, names: list[str]) -> str:
    """Write a row as text, in which NaN is equal to itself, and lists and structs can be counted."""
    return repr([row[name] for name in names])
