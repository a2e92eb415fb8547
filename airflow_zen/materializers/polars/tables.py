"""polars tables to parquet and back."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.arrow.parquet import row_group_size_for_width
from airflow_zen.materializers.arrow.statistics import file_statistics
from airflow_zen.materializers.arrow.summary import summarize_table
from airflow_zen.materializers.registry import MaterializerRegistry

FILE_NAME = "table.parquet"
METADATA_KEY = "airflow_zen"

_SERIES = "Series"


def stored_polars_type(value: Any) -> type:
    """Give `polars.DataFrame` for a plan of one."""
    return pl.DataFrame if isinstance(value, pl.LazyFrame) else type(value)


def save_polars_table(value: Any, directory: Path) -> Mapping[str, Any]:
    """Write a frame, series or plan with zstd at level 1; how it is chunked in memory does not change the bytes."""
    if type(value) is pl.LazyFrame:
        return _sink_lazy_frame(value, directory)
    frame = _to_frame(value)
    _check_schema(frame.schema)
    metadata = {METADATA_KEY: _SERIES} if isinstance(value, pl.Series) else {}
    _write_parquet(frame.rechunk(), directory / FILE_NAME, metadata)
    return _summarize_schema(frame.schema, frame.height, directory)


def _sink_lazy_frame(plan: pl.LazyFrame, directory: Path) -> Mapping[str, Any]:
    """Let polars compute the plan into the file, part by part: the same bytes as of the collected frame."""
    schema = plan.collect_schema()
    _check_schema(schema)
    with _translate_errors():
        plan.sink_parquet(directory / FILE_NAME, maintain_order=True, metadata={}, **_parquet_options(schema))
    rows = pl.scan_parquet(directory / FILE_NAME, glob=False).select(pl.len()).collect().item()
    return _summarize_schema(schema, rows, directory)


def load_polars_table(directory: Path) -> Any:
    """Read what `save_polars_table` wrote."""
    file = directory / FILE_NAME
    frame = pl.read_parquet(file, glob=False, hive_partitioning=False)
    is_series = pl.read_parquet_metadata(file).get(METADATA_KEY) == _SERIES
    return frame.to_series() if is_series else frame


def load_foreign_table(registry: MaterializerRegistry, directory: Path, encoding: str) -> Any:
    """Read another library's table as a polars frame."""
    import pyarrow as pa

    return pl.DataFrame(registry.load(directory, encoding, pa.Table))


def _to_frame(value: Any) -> pl.DataFrame:
    if type(value) is pl.DataFrame:
        return value
    if type(value) is pl.Series:
        return value.to_frame()
    raise SaveRefused(f"{type(value).__qualname__} would come back as its base class. Convert it to that first.")


def _check_schema(schema: pl.Schema) -> None:
    """Try the schema on an empty frame: what comes back different is refused."""
    sink = io.BytesIO()
    _write_parquet(pl.DataFrame(schema=schema), sink, {})
    read = pl.read_parquet(io.BytesIO(sink.getvalue())).schema
    changed = [name for name, dtype in schema.items() if read.get(name) != dtype]
    if changed:
        raise SaveRefused(f"Parquet does not keep the dtype of {', '.join(map(repr, changed))}. Cast the column(s).")


def _write_parquet(frame: pl.DataFrame, target: Any, metadata: dict[str, str]) -> None:
    with _translate_errors():
        frame.write_parquet(target, metadata=metadata, **_parquet_options(frame.schema))


def _parquet_options(schema: pl.Schema) -> dict[str, Any]:
    rows = row_group_size_for_width(
        sum(8 if dtype.is_numeric() or dtype.is_temporal() else 32 for dtype in schema.dtypes())
    )
    return {"compression": "zstd", "compression_level": 1, "row_group_size": rows}


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise SaveRefused(f"polars does not write this frame to parquet: {error}. Cast the column(s).") from error


def _summarize_schema(schema: pl.Schema, rows: int, directory: Path) -> dict[str, Any]:
    known = file_statistics(directory / FILE_NAME)
    return summarize_table(
        rows, [{"name": name, "type": str(dtype), **known.get(name, {})} for name, dtype in schema.items()]
    )
