"""Parquet back to frames, series and indexes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_zen.artifacts.arriving import VerifiedStream
from airflow_zen.materializers.arrow.parquet import FILE_NAME
from airflow_zen.materializers.arrow.stored import ParquetTable, RowGroup
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.pandas.axes import build_index, index_buffers
from airflow_zen.materializers.pandas.columns import buffer_for
from airflow_zen.materializers.pandas.gathering import FrameBuilder
from airflow_zen.materializers.pandas.others import arrow_to_pandas
from airflow_zen.materializers.pandas.stored import PandasMetadata
from airflow_zen.materializers.tree import decode_typed_json

Targets = Mapping[str, np.ndarray[Any, Any]]


def load_pandas(materializer: Materializer, directory: Path) -> Any:
    """Read what `save` wrote."""
    return _build_value(materializer, ParquetTable(directory / FILE_NAME), directory)


def load_pandas_stream(materializer: Materializer, file: VerifiedStream) -> Any:
    """Read the only file of an artifact while it arrives."""
    with file:
        return _build_value(materializer, ParquetTable(file))


def _build_value(materializer: Materializer, stored: ParquetTable, directory: Path | None = None) -> Any:
    metadata: PandasMetadata = (
        decode_typed_json(materializer, stored.zen_metadata, directory) if stored.zen_metadata else {}
    )
    builder = assemble_columns(stored.read_into, stored.schema, stored.num_rows, metadata)
    index = pop_index(builder, metadata)
    if metadata.get("kind") == "index":
        return index
    frame = builder.build_frame()
    frame.index = index
    return apply_labels(frame, metadata, metadata.get("columns"))


def as_requested_type(value: Any, wanted: Any) -> Any:
    """Show a series as a frame of one column to who asks for a frame."""
    asks = isinstance(wanted, type) and issubclass(wanted, pd.DataFrame)
    return value.to_frame() if asks and isinstance(value, pd.Series) else value


def load_foreign_table(materializer: Materializer, directory: Path, encoding: str, wanted: type | None) -> Any:
    """Read an Arrow or polars table as a frame, or its only column as a series."""
    table = materializer.registry.load(directory, encoding, pa.Table)
    frame = arrow_to_pandas(pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table)
    return frame.iloc[:, 0] if wanted is pd.Series and frame.shape[1] == 1 else frame


def assemble_columns(
    read: Callable[[Targets], Iterable[RowGroup]], schema: pa.Schema, rows: int, metadata: PandasMetadata
) -> FrameBuilder:
    """Gather the columns that a schema names, as a table's note describes them; `read` may copy some to their places."""
    dtypes = metadata.get("dtypes", {})
    buffers = {name: buffer_for(schema.field(name).type, dtypes[name], rows) for name in schema.names if name in dtypes}
    builder = FrameBuilder(schema, rows, buffers | index_buffers(metadata.get("index", {}), schema, rows))
    return builder.add(read(builder.targets))


def pop_index(builder: FrameBuilder, metadata: PandasMetadata) -> pd.Index:
    """Take the row labels out of the columns."""
    labels = metadata.get("index", {})
    return build_index({name: builder.pop_values(name) for name in labels.get("in", ())}, labels, builder.rows)


def apply_labels(frame: pd.DataFrame, metadata: PandasMetadata, columns: pd.Index | None) -> Any:
    """Give a frame its column labels where the names in the file are not enough, or make it a series."""
    value: Any = frame
    if metadata.get("kind") == "series":
        value = frame.iloc[:, 0]
        value.name = metadata["name"]  # rename() copies before pandas 3
    elif columns is not None:
        frame.columns = columns
    value.attrs = dict(metadata.get("attrs", {}))
    return value.set_flags(allows_duplicate_labels=False) if metadata.get("unique_labels") else value
