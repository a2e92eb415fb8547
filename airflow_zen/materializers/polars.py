"""polars frames and series as one parquet file, written and read by polars itself."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.annotations import View
from airflow_zen.materializers.base import Materializer, SavedBatches
from airflow_zen.materializers.previews.tables import MAX_PREVIEW_ROWS, TableColumn, preview_table

if TYPE_CHECKING:
    import polars as pl

    from airflow_zen.artifacts.reader import ArtifactReader
    from airflow_zen.materializers.registry import MaterializerRegistry


class PolarsMaterializer(Materializer):
    """Save `DataFrame` and `Series` of every dtype but `Object`; shows Arrow and pandas tables as polars.

    A `LazyFrame` is a plan: what is stored is the frame it makes, written while it is computed.
    """

    types = ("polars.DataFrame", "polars.Series", "polars.LazyFrame")
    lazy_types = ("polars.LazyFrame",)
    is_table = True
    encoding = "polars.parquet@1"
    reads = ("pandas.parquet@1", "pyarrow.parquet@1", "pyarrow.ipc@1")
    libraries = ("polars",)
    extra = "polars"

    def stored_type(self, value: Any) -> type:
        """Give `polars.DataFrame` for a plan of one."""
        return stored_polars_type(value)

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `table.parquet`."""
        return save_polars_table(value, directory)

    def save_batches(self, batches: Iterator[Any], directory: Path) -> SavedBatches:
        """Refuse: only polars itself writes polars' layout."""
        raise SaveRefused("polars frames are not written one by one. Return a polars.LazyFrame, which polars streams.")

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the first rows, and a chart of each column."""
        import polars as pl

        frame = value.to_frame() if isinstance(value, pl.Series) else value
        return preview_table(value, summary, frame.shape, _preview_columns(frame))

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read a frame or series; an Arrow or pandas table becomes a frame."""
        own = encoding == self.encoding
        value = load_polars_table(directory) if own else load_foreign_table(self.registry, directory, encoding)
        requested_type = getattr(wanted, "__qualname__", "")
        if requested_type == "DataFrame" and type(value).__qualname__ == "Series":
            return value.to_frame()
        return value.lazy() if requested_type == "LazyFrame" else value

    def load_view(self, source: ArtifactReader, encoding: str, view: View) -> Any:
        """Read columns, frames one by one, or a plan that scans the file where it lies."""
        return load_polars_view(self.registry, source, encoding, view)


def _preview_columns(frame: pl.DataFrame) -> Iterator[TableColumn]:
    for series in frame.get_columns():
        head, size = map(_to_cell, series.head(MAX_PREVIEW_ROWS)), series.estimated_size()
        yield TableColumn(series.name, str(series.dtype), head, int(size), partial(_sample_to_arrow, series))


def _to_cell(value: Any) -> Any:
    import polars as pl

    return value.to_list() if isinstance(value, pl.Series) and len(value) < MAX_PREVIEW_ROWS else value


def _sample_to_arrow(series: pl.Series, rows: list[int]) -> Any:
    import polars as pl

    try:
        return series.gather(rows).alias("").to_arrow()
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{series.dtype} has no Arrow type.") from error


FILE_NAME = "table.parquet"
METADATA_KEY = "airflow_zen"

_SERIES = "Series"


def stored_polars_type(value: Any) -> type:
    """Give `polars.DataFrame` for a plan of one."""
    import polars as pl

    return pl.DataFrame if isinstance(value, pl.LazyFrame) else type(value)


def save_polars_table(value: Any, directory: Path) -> Mapping[str, Any]:
    """Write a frame, series or plan with zstd at level 1; how it is chunked in memory does not change the bytes."""
    import polars as pl

    if type(value) is pl.LazyFrame:
        return _sink_lazy_frame(value, directory)
    frame = _to_frame(value)
    _check_schema(frame.schema)
    metadata = {METADATA_KEY: _SERIES} if isinstance(value, pl.Series) else {}
    _write_parquet(frame.rechunk(), directory / FILE_NAME, metadata)
    return _summarize_schema(frame.schema, frame.height, directory)


def _sink_lazy_frame(plan: pl.LazyFrame, directory: Path) -> Mapping[str, Any]:
    """Let polars compute the plan into the file, part by part: the same bytes as of the collected frame."""
    import polars as pl

    schema = plan.collect_schema()
    _check_schema(schema)
    with _translate_errors():
        plan.sink_parquet(directory / FILE_NAME, maintain_order=True, metadata={}, **_parquet_options(schema))
    rows = pl.scan_parquet(directory / FILE_NAME, glob=False).select(pl.len()).collect().item()
    return _summarize_schema(schema, rows, directory)


def load_polars_table(directory: Path) -> Any:
    """Read what `save_polars_table` wrote."""
    import polars as pl

    file = directory / FILE_NAME
    frame = pl.read_parquet(file, glob=False, hive_partitioning=False)
    is_series = pl.read_parquet_metadata(file).get(METADATA_KEY) == _SERIES
    return frame.to_series() if is_series else frame


def load_foreign_table(registry: MaterializerRegistry, directory: Path, encoding: str) -> Any:
    """Read another library's table as a polars frame."""
    import polars as pl
    import pyarrow as pa

    return pl.DataFrame(registry.load(directory, encoding, pa.Table))


def _to_frame(value: Any) -> pl.DataFrame:
    import polars as pl

    if type(value) is pl.DataFrame:
        return value
    if type(value) is pl.Series:
        return value.to_frame()
    raise SaveRefused(f"{type(value).__qualname__} would come back as its base class. Convert it to that first.")


def _check_schema(schema: pl.Schema) -> None:
    """Try the schema on an empty frame: what comes back different is refused."""
    import polars as pl

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
    from airflow_zen.materializers.arrow.parquet_writer import row_group_size_for_width

    rows = row_group_size_for_width(
        sum(8 if dtype.is_numeric() or dtype.is_temporal() else 32 for dtype in schema.dtypes())
    )
    return {"compression": "zstd", "compression_level": 1, "row_group_size": rows}


@contextmanager
def _translate_errors() -> Iterator[None]:
    import polars as pl

    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise SaveRefused(f"polars does not write this frame to parquet: {error}. Cast the column(s).") from error


def _summarize_schema(schema: pl.Schema, rows: int, directory: Path) -> dict[str, Any]:
    from airflow_zen.materializers.arrow.statistics import file_statistics, summarize_table

    known = file_statistics(directory / FILE_NAME)
    return summarize_table(rows, ((name, dtype, known.get(name, {})) for name, dtype in schema.items()))


def load_polars_view(registry: MaterializerRegistry, source: ArtifactReader, encoding: str, view: View) -> Any:
    """Read what is asked for: a plan, an iterator of frames, or a frame or series of some columns."""
    import polars as pl

    from airflow_zen.materializers.arrow.parquet_reader import check_columns

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
    import polars as pl
    import pyarrow as pa

    from airflow_zen.materializers.arrow.parquet_reader import ParquetTable, is_readable_as_arrow

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
    import polars as pl

    from airflow_zen.materializers.arrow.parquet_writer import MAX_ROW_GROUP_SIZE

    rows = plan.select(pl.len()).collect().item()
    for at in range(0, rows, MAX_ROW_GROUP_SIZE):
        yield plan.slice(at, MAX_ROW_GROUP_SIZE).collect()
