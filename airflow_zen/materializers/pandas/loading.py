"""Parquet back to frames, series and indexes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_zen.materializers.arrow.exact import restore_schema
from airflow_zen.materializers.arrow.parquet import FILE_NAME, take_note
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.pandas.axes import restored_index
from airflow_zen.materializers.pandas.columns import restore
from airflow_zen.materializers.pandas.plain import TYPES
from airflow_zen.materializers.pandas.stored import Note, one_array
from airflow_zen.materializers.tree import tree_value


def load(materializer: Materializer, directory: Path) -> Any:
    """Read what `save` wrote."""
    table, text = take_note(restore_schema(pq.ParquetFile(directory / FILE_NAME)))
    if not text:
        return _plain(table)
    note = tree_value(materializer, text, directory)
    labels = note.get("index", {})
    inside = list(labels.get("in", ()))
    index = restored_index({name: one_array(table[name]) for name in inside}, labels, table.num_rows)
    if note.get("kind") == "index":
        return index
    frame = frame_of(table.drop_columns(inside) if inside else table, note.get("dtypes", {}))
    frame.index = index
    return _labelled(frame, note)


def load_view(materializer: Materializer, directory: Path, encoding: str, wanted: type | None) -> Any:
    """Read an Arrow or polars table as a frame, or its only column as a series."""
    table = materializer.registry.load(directory, encoding, pa.Table)
    frame = pa.Table.from_batches([table]).to_pandas() if isinstance(table, pa.RecordBatch) else table.to_pandas()
    return frame.iloc[:, 0] if wanted is pd.Series and frame.shape[1] == 1 else frame


def _plain(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True, types_mapper=TYPES.get)
    return frame


def frame_of(table: pa.Table, notes: Mapping[str, Note]) -> pd.DataFrame:
    """Convert all plain columns together, and each noted one by its note."""
    plain = _plain(table.drop_columns(list(notes)) if notes else table)
    if not notes:
        return plain
    noted = {name: _series(restore(one_array(table[name]), note)) for name, note in notes.items()}
    columns = {name: noted[name] if name in noted else plain[name] for name in table.column_names}
    return pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows), copy=False)


def _series(values: Any) -> pd.Series:
    series: pd.Series = pd.Series(values, dtype=values.dtype, copy=False)
    return series


def _labelled(frame: pd.DataFrame, note: Note) -> Any:
    value: Any = frame
    if note.get("kind") == "series":
        value = frame.iloc[:, 0].rename(note["name"])
    elif "columns" in note:
        frame.columns = note["columns"]
    value.attrs = note.get("attrs", {})
    return value.set_flags(allows_duplicate_labels=False) if note.get("unique_labels") else value
