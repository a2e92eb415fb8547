"""Parquet back to frames, series and indexes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_zen.artifacts.arriving import ArrivingFile
from airflow_zen.materializers.arrow.parquet import FILE_NAME
from airflow_zen.materializers.arrow.stored import Rows, StoredTable
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.pandas.axes import index_rooms, restored_index
from airflow_zen.materializers.pandas.columns import room_for
from airflow_zen.materializers.pandas.gathering import Gathered
from airflow_zen.materializers.pandas.others import as_pandas
from airflow_zen.materializers.pandas.stored import Note
from airflow_zen.materializers.tree import tree_value

Places = Mapping[str, np.ndarray[Any, Any]]


def load(materializer: Materializer, directory: Path) -> Any:
    """Read what `save` wrote."""
    return _value(materializer, StoredTable(directory / FILE_NAME), directory)


def load_arriving(materializer: Materializer, file: ArrivingFile) -> Any:
    """Read the only file of an artifact while it arrives."""
    with file:
        return _value(materializer, StoredTable(file))


def _value(materializer: Materializer, stored: StoredTable, directory: Path | None = None) -> Any:
    note: Note = tree_value(materializer, stored.note, directory) if stored.note else {}
    gathered = gather(stored.into, stored.schema, stored.rows, note)
    index = index_of(gathered, note)
    if note.get("kind") == "index":
        return index
    frame = gathered.frame()
    frame.index = index
    return labelled(frame, note, note.get("columns"))


def as_wanted(value: Any, wanted: Any) -> Any:
    """Show a series as a frame of one column to who asks for a frame."""
    asks = isinstance(wanted, type) and issubclass(wanted, pd.DataFrame)
    return value.to_frame() if asks and isinstance(value, pd.Series) else value


def load_view(materializer: Materializer, directory: Path, encoding: str, wanted: type | None) -> Any:
    """Read an Arrow or polars table as a frame, or its only column as a series."""
    table = materializer.registry.load(directory, encoding, pa.Table)
    frame = as_pandas(pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table)
    return frame.iloc[:, 0] if wanted is pd.Series and frame.shape[1] == 1 else frame


def gather(read: Callable[[Places], Iterable[Rows]], schema: pa.Schema, rows: int, note: Note) -> Gathered:
    """Gather the columns that a schema names, as a table's note describes them; `read` may copy some to their places."""
    dtypes = note.get("dtypes", {})
    rooms = {name: room_for(schema.field(name).type, dtypes[name], rows) for name in schema.names if name in dtypes}
    gathered = Gathered(schema, rows, rooms | index_rooms(note.get("index", {}), schema, rows))
    return gathered.add(read(gathered.places))


def index_of(gathered: Gathered, note: Note) -> pd.Index:
    """Take the row labels out of the columns."""
    labels = note.get("index", {})
    return restored_index({name: gathered.take(name) for name in labels.get("in", ())}, labels, gathered.rows)


def labelled(frame: pd.DataFrame, note: Note, columns: pd.Index | None) -> Any:
    """Give a frame its column labels where the names in the file are not enough, or make it a series."""
    value: Any = frame
    if note.get("kind") == "series":
        value = frame.iloc[:, 0]
        value.name = note["name"]  # rename() copies before pandas 3
    elif columns is not None:
        frame.columns = columns
    value.attrs = dict(note.get("attrs", {}))
    return value.set_flags(allows_duplicate_labels=False) if note.get("unique_labels") else value
