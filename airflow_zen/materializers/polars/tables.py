"""polars tables to parquet and back."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.arrow.parquet import rows_of_width
from airflow_zen.materializers.arrow.statistics import file_statistics
from airflow_zen.materializers.arrow.summary import describe
from airflow_zen.materializers.registry import MaterializerRegistry

FILE_NAME = "table.parquet"
NOTE = "airflow_zen"

_SERIES = "Series"


def stored_type(value: Any) -> type:
    """Give `polars.DataFrame` for a plan of one."""
    return pl.DataFrame if isinstance(value, pl.LazyFrame) else type(value)


def save_table(value: Any, directory: Path) -> Mapping[str, Any]:
    """Write a frame, series or plan with zstd at level 1; how it is chunked in memory does not change the bytes."""
    if type(value) is pl.LazyFrame:
        return _save_plan(value, directory)
    frame = _frame(value)
    _check(frame.schema)
    note = {NOTE: _SERIES} if isinstance(value, pl.Series) else {}
    _write(frame.rechunk(), directory / FILE_NAME, note)
    return _summary(frame.schema, frame.height, directory)


def _save_plan(plan: pl.LazyFrame, directory: Path) -> Mapping[str, Any]:
    """Let polars compute the plan into the file, part by part: the same bytes as of the collected frame."""
    schema = plan.collect_schema()
    _check(schema)
    with _explained():
        plan.sink_parquet(directory / FILE_NAME, maintain_order=True, metadata={}, **_options(schema))
    rows = pl.scan_parquet(directory / FILE_NAME, glob=False).select(pl.len()).collect().item()
    return _summary(schema, rows, directory)


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
    raise SaveRefused(f"{type(value).__qualname__} would come back as its base class. Convert it to that first.")


def _check(schema: pl.Schema) -> None:
    """Try the schema on an empty frame: what comes back different is refused."""
    sink = io.BytesIO()
    _write(pl.DataFrame(schema=schema), sink, {})
    read = pl.read_parquet(io.BytesIO(sink.getvalue())).schema
    changed = [name for name, dtype in schema.items() if read.get(name) != dtype]
    if changed:
        raise SaveRefused(f"Parquet does not keep the dtype of {', '.join(map(repr, changed))}. Cast the column(s).")


def _write(frame: pl.DataFrame, target: Any, note: dict[str, str]) -> None:
    with _explained():
        frame.write_parquet(target, metadata=note, **_options(frame.schema))


def _options(schema: pl.Schema) -> dict[str, Any]:
    rows = rows_of_width(sum(8 if dtype.is_numeric() or dtype.is_temporal() else 32 for dtype in schema.dtypes()))
    return {"compression": "zstd", "compression_level": 1, "row_group_size": rows}


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise SaveRefused(f"polars does not write this frame to parquet: {error}. Cast the column(s).") from error


def _summary(schema: pl.Schema, rows: int, directory: Path) -> dict[str, Any]:
    known = file_statistics(directory / FILE_NAME)
    return describe(rows, [{"name": name, "type": str(dtype), **known.get(name, {})} for name, dtype in schema.items()])
