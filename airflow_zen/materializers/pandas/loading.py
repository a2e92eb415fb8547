"""Parquet back to frames, series and indexes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from airflow_zen.materializers.arrow.parquet import FILE_NAME
from airflow_zen.materializers.arrow.stored import StoredTable
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.pandas.axes import restored_index
from airflow_zen.materializers.pandas.gathering import Gathered
from airflow_zen.materializers.pandas.stored import Note, one_array
from airflow_zen.materializers.tree import tree_value


def load(materializer: Materializer, directory: Path) -> Any:
    """Read what `save` wrote."""
    stored = StoredTable(directory / FILE_NAME)
    note: Note = tree_value(materializer, stored.note, directory) if stored.note else {}
    gathered = gather(stored.batches(), stored.schema, stored.rows, note)
    index = index_of(gathered, note)
    if note.get("kind") == "index":
        return index
    frame = gathered.frame(note.get("dtypes", {}))
    frame.index = index
    return labelled(frame, note, note.get("columns"))


def load_view(materializer: Materializer, directory: Path, encoding: str, wanted: type | None) -> Any:
    """Read an Arrow or polars table as a frame, or its only column as a series."""
    table = materializer.registry.load(directory, encoding, pa.Table)
    frame = pa.Table.from_batches([table]).to_pandas() if isinstance(table, pa.RecordBatch) else table.to_pandas()
    return frame.iloc[:, 0] if wanted is pd.Series and frame.shape[1] == 1 else frame


def gather(parts: Iterable[pa.Table], schema: pa.Schema, rows: int, note: Note) -> Gathered:
    """Gather the columns that a schema names, as a table's note describes them."""
    return Gathered(schema, rows, {*note.get("dtypes", ()), *_inside(note)}).add(parts)


def index_of(gathered: Gathered, note: Note) -> pd.Index:
    """Take the row labels out of the columns."""
    arrays = {name: one_array(gathered.take(name)) for name in _inside(note)}
    return restored_index(arrays, note.get("index", {}), gathered.rows)


def labelled(frame: pd.DataFrame, note: Note, columns: pd.Index | None) -> Any:
    """Give a frame its column labels where the names in the file are not enough, or make it a series."""
    value: Any = frame
    if note.get("kind") == "series":
        value = frame.iloc[:, 0].rename(note["name"])
    elif columns is not None:
        frame.columns = columns
    value.attrs = dict(note.get("attrs", {}))
    return value.set_flags(allows_duplicate_labels=False) if note.get("unique_labels") else value


def _inside(note: Note) -> Collection[str]:
    names: Collection[str] = note.get("index", {}).get("in", ())
    return names
