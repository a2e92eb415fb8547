"""Some columns of a stored table as polars, its rows in parts, or a plan that scans it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from airflow_zen.artifacts.source import ArtifactReader
from airflow_zen.materializers.arrow.parquet import MAX_ROW_GROUP_SIZE
from airflow_zen.materializers.arrow.stored import ParquetTable, check_columns, is_readable_as_arrow
from airflow_zen.materializers.polars.tables import FILE_NAME
from airflow_zen.materializers.registry import MaterializerRegistry
from airflow_zen.materializers.views import View


def load_polars_view(registry: MaterializerRegistry, source: ArtifactReader, encoding: str, view: View) -> Any:
    """Read what is asked for: a plan, an iterator of frames, or a frame or series of some columns."""
    plan = _scan(registry, source, encoding, view.columns)
    if view.columns:
        check_columns(view.columns, plan.collect_schema().names())
        plan = plan.select(view.columns)
    if view.batches:
        return _collect_batches(plan)
    if view.cls is pl.LazyFrame:
        return plan
    frame = plan.collect()
    return frame.to_series() if view.cls is pl.Series and frame.width == 1 else frame


def _scan(
    registry: MaterializerRegistry, source: ArtifactReader, encoding: str, columns: tuple[str, ...]
) -> pl.LazyFrame:
    """Scan a parquet file where it lies, through polars' own client for a remote one; else what can be read as Arrow."""
    if encoding == "pyarrow.ipc@1" or (
        encoding == "pandas.parquet@1" and not is_readable_as_arrow(ParquetTable.open(source).zen_metadata)
    ):
        part = View(pa.Table, columns)
        table = (
            registry.load_view(source, encoding, part)
            if columns
            else registry.load(source.directory(), encoding, pa.Table)
        )
        return pl.DataFrame(table).lazy()
    remote = source.object_store_url(FILE_NAME)
    if remote:
        url, options = remote
        return pl.scan_parquet(url, storage_options=dict(options), glob=False, hive_partitioning=False)
    path = source.open(FILE_NAME)
    path = path if isinstance(path, Path) else source.directory() / FILE_NAME
    return pl.scan_parquet(path, glob=False, hive_partitioning=False)


def _collect_batches(plan: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    rows = plan.select(pl.len()).collect().item()
    for at in range(0, rows, MAX_ROW_GROUP_SIZE):
        yield plan.slice(at, MAX_ROW_GROUP_SIZE).collect()
