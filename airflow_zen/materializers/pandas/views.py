"""Some columns of a stored table as pandas, or its rows in frames one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa

from airflow_zen.artifacts.source import ArtifactSource
from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.arrow.stored import Rows, StoredTable, check_columns
from airflow_zen.materializers.arrow.views import columns_with_nulls
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.pandas.gathering import Gathered
from airflow_zen.materializers.pandas.loading import gather, index_of, labelled
from airflow_zen.materializers.pandas.others import as_pandas
from airflow_zen.materializers.pandas.stored import Note
from airflow_zen.materializers.tree import tree_value
from airflow_zen.materializers.views import View


def load_view(materializer: Materializer, source: ArtifactSource, encoding: str, view: View) -> Any:
    """Read what is asked for: an iterator of frames, whose row numbers count on, or a frame or series of some columns."""
    if encoding != materializer.encoding:
        tables = materializer.registry.load_view(source, encoding, View(pa.Table, view.columns, batches=True))
        nulls = columns_with_nulls(source, encoding)
        parts: Iterable[Any] = (_numbered(as_pandas(part, nulls), at) for at, part in _placed(tables))
        return _shown(parts, view)
    stored = StoredTable.of(source)
    note: Note = tree_value(materializer, stored.note, _directory_of_parts(stored.note, source)) if stored.note else {}
    if note.get("kind") == "index":
        raise ArtifactRefused(f"A pandas index is not read as {view}. Ask for pd.Index.")
    names = _names_in_file(stored, note, view)
    schema = stored.schema_of(names)
    if view.batches:
        tables = _placed(stored.batches(names))
        return (
            _value(lambda _, table=table: [Rows(0, table)], schema, table.num_rows, note, at, view)
            for at, table in tables
        )
    return _shown([_value(partial(stored.into, names=names), schema, stored.rows, note, 0, view)], view)


def _shown(parts: Iterable[Any], view: View) -> Any:
    if view.batches:
        return iter(parts)
    found = list(parts)
    frame = found[0] if len(found) == 1 else pd.concat(found)
    return frame.iloc[:, 0] if view.cls is pd.Series and frame.ndim == 2 and frame.shape[1] == 1 else frame


def _placed(tables: Iterable[pa.Table]) -> Iterator[tuple[int, pa.Table]]:
    at = 0
    for table in tables:
        yield at, table
        at += table.num_rows


def _numbered(frame: pd.DataFrame, at: int) -> pd.DataFrame:
    return frame.set_axis(pd.RangeIndex(at, at + len(frame)), axis=0) if type(frame.index) is pd.RangeIndex else frame


def _directory_of_parts(note: str, source: ArtifactSource) -> Any:
    return source.directory() if '"part"' in note else None


def _labels(stored: StoredTable, note: Note) -> list[Any]:
    inside = set(note.get("index", {}).get("in", ()))
    return list(note["columns"]) if "columns" in note else [n for n in stored.schema.names if n not in inside]


def _names_in_file(stored: StoredTable, note: Note, view: View) -> list[str]:
    """Give the columns of the file that hold the wanted ones, and those of the index; none where all are wanted."""
    if not view.columns:
        return []
    labels = _labels(stored, note)
    check_columns(view.columns, labels)
    wanted = [stored.schema.names[place] for place in _places(labels, view)]
    return [*wanted, *note.get("index", {}).get("in", ())]


def _places(labels: Iterable[Any], view: View) -> list[int]:
    """Say where the wanted columns stand; a name that several columns have stands for all of them."""
    held = list(labels)
    return [place for name in view.columns for place, label in enumerate(held) if label == name]


def _value(read: Any, schema: pa.Schema, rows: int, note: Note, at: int, view: View) -> Any:
    gathered = gather(read, schema, rows, note)
    index = _index(gathered, note, at)
    frame = gathered.frame()
    frame.index = index
    columns = note.get("columns")
    if columns is not None and view.columns:
        columns = columns[_places(columns, view)]
    return labelled(frame, note, columns)


def _index(gathered: Gathered, note: Note, at: int) -> pd.Index:
    labels = note.get("index", {})
    if "range" in labels:
        found: pd.Index = labels["range"][at : at + gathered.rows]
        return found
    return index_of(gathered, note) if labels else pd.RangeIndex(at, at + gathered.rows)
