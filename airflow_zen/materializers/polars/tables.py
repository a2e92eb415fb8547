"""polars tables to parquet and back."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.arrow.summary import describe
from airflow_zen.materializers.registry import MaterializerRegistry

FILE_NAME = "table.parquet"
NOTE = "airflow_zen"
ROWS_IN_A_GROUP = 1 << 20

_SERIES = "Series"


def save_table(value: Any, directory: Path) -> Mapping[str, Any]:
    """Write a frame or series with zstd at level 1; how it is chunked in memory does not change the bytes."""
    frame = _frame(value)
    _check(frame)
    note = {NOTE: _SERIES} if isinstance(value, pl.Series) else {}
    _write(frame.rechunk(), directory / FILE_NAME, note)
    columns = [{"name": name, "type": str(dtype)} for name, dtype in frame.schema.items()]
    return describe(frame.height, columns)


def load_table(directory: Path) -> Any:
    """Read what `save_table` wrote."""
    file = directory / FILE_NAME
    frame = pl.read_parquet(file, glob=False, hive_partitioning=False)
    is_series = pl.read_parquet_metadata(file).get(NOTE) == _SERIES
    return frame.to_series() if is_series else frame


def load_view(registry: MaterializerRegistry, directory: Path, encoding: str) -> Any:
    """Read another library's table as a polars frame."""
    import pyarrow as pa

    return pl.DataFrame(registry.load(directory, encoding, pa.Table))


def _frame(value: Any) -> pl.DataFrame:
    if type(value) is pl.DataFrame:
        return value
    if type(value) is pl.Series:
        return value.to_frame()
    if isinstance(value, pl.LazyFrame):
        raise SaveRefused("A polars.LazyFrame is a plan, not a value. Return frame.collect().")
    raise SaveRefused(f"{type(value).__qualname__} would come back as its base class. Convert it to that first.")


def _check(frame: pl.DataFrame) -> None:
    """Try the schema on an empty frame: what comes back different is refused."""
    sink = io.BytesIO()
    _write(frame.clear(), sink, {})
    read = pl.read_parquet(io.BytesIO(sink.getvalue())).schema
    changed = [name for name, dtype in frame.schema.items() if read.get(name) != dtype]
    if changed:
        raise SaveRefused(f"Parquet does not keep the dtype of {', '.join(map(repr, changed))}. Cast the column(s).")


def _write(frame: pl.DataFrame, target: Any, note: dict[str, str]) -> None:
    try:
        frame.write_parquet(
            target, compression="zstd", compression_level=1, row_group_size=ROWS_IN_A_GROUP, metadata=note
        )
    except pl.exceptions.PolarsError as error:
        raise SaveRefused(f"polars does not write this frame to parquet: {error}. Cast the column(s).") from error
