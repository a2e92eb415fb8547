"""polars frames and series as one parquet file, written and read by polars itself."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.annotations import View
from airflow_zen.materializers.base import Materializer, SavedBatches
from airflow_zen.materializers.previews.tables import MAX_PREVIEW_ROWS, TableColumn, preview_table
from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    import polars as pl

    from airflow_zen.artifacts.reader import ArtifactReader

FILE_NAME = "table.parquet"
METADATA_KEY = "airflow_zen"

_SERIES = "Series"


class PolarsMaterializer(Materializer):
    """Save `DataFrame` and `Series` of every dtype but `Object`; also loads Arrow and pandas tables as polars.

    A `LazyFrame` is stored as the frame that it computes, which is written while it is computed.
    """

    types = ("polars.DataFrame", "polars.Series", "polars.LazyFrame")
    lazy_types = ("polars.LazyFrame",)
    is_table = True
    encoding = "polars.parquet@1"
    reads = ("pandas.parquet@1", "pyarrow.parquet@1", "pyarrow.ipc@1")
    libraries = ("polars",)
    extra = "polars"

    def stored_type(self, value: Any) -> type:
        """Return `polars.DataFrame` for a `LazyFrame`."""
        import polars as pl

        return pl.DataFrame if isinstance(value, pl.LazyFrame) else type(value)

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `table.parquet` with zstd at level 1; the chunks in memory do not change the bytes."""
        import polars as pl

        path, is_series = directory / FILE_NAME, isinstance(value, pl.Series)
        if type(value) not in (pl.DataFrame, pl.Series, pl.LazyFrame):
            base = next(cls.__qualname__ for cls in type(value).__mro__ if cls.__module__.startswith("polars."))
            raise SaveRefused(
                f"{type_name(type(value))} would come back as its base class. Return polars.{base}(value)."
            )
        frame = value.to_frame() if is_series else value
        schema = frame.collect_schema()
        _check_schema(schema)
        _write_parquet(frame, schema, path, is_series)
        is_frame = isinstance(frame, pl.DataFrame)
        return _summarize(schema, frame.height if is_frame else _count_rows(pl.scan_parquet(path, glob=False)), path)

    def save_batches(self, batches: Iterator[Any], directory: Path) -> SavedBatches:
        """Raise `SaveRefused`: only polars itself writes this layout."""
        raise SaveRefused("polars frames are not written one by one. Return a polars.LazyFrame, which polars streams.")

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the first rows, and a chart of each column."""
        frame = value if hasattr(value, "columns") else value.to_frame()
        return preview_table(value, summary, frame.shape, _preview_columns(frame))

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Return a frame or series; an Arrow or pandas table becomes a frame."""
        import polars as pl

        if encoding != self.encoding:
            frame = self._load_arrow(directory, encoding)
        else:
            frame = pl.read_parquet(directory / FILE_NAME, glob=False, hive_partitioning=False)
            is_series = pl.read_parquet_metadata(directory / FILE_NAME).get(METADATA_KEY) == _SERIES
            if is_series and wanted not in (pl.DataFrame, pl.LazyFrame):
                return frame.to_series()
        return frame.lazy() if wanted is pl.LazyFrame else frame

    def load_view(self, source: ArtifactReader, encoding: str, view: View) -> Any:
        """Return some columns, an iterator of frames, or a `LazyFrame` that scans the stored file."""
        import polars as pl

        from airflow_zen.materializers.arrow.parquet_reader import check_columns

        plan = self._scan(source, encoding, view.columns)
        if view.columns:
            check_columns(view.columns, plan.collect_schema().names())
            plan = plan.select(view.columns)
        if view.batches:
            return _collect_batches(plan)
        if view.cls is pl.LazyFrame:
            return plan
        frame = plan.collect()
        return frame.to_series() if view.cls is pl.Series and frame.width == 1 else frame

    def _scan(self, source: ArtifactReader, encoding: str, columns: tuple[str, ...]) -> pl.LazyFrame:
        """Return a scan of a parquet file, remote files through polars' own client; other files are read as Arrow."""
        import polars as pl
        import pyarrow as pa

        from airflow_zen.materializers.arrow.parquet_reader import ParquetTable, is_readable_as_arrow

        if encoding == "pyarrow.ipc@1" or (
            encoding == "pandas.parquet@1" and not is_readable_as_arrow(ParquetTable.open(source).zen_metadata)
        ):
            if columns:
                return pl.DataFrame(self.registry.load_view(source, encoding, View(pa.Table, columns))).lazy()
            return self._load_arrow(source.directory(), encoding).lazy()
        if remote := source.object_store_url(FILE_NAME):
            url, options = remote
            return pl.scan_parquet(url, storage_options=dict(options), glob=False, hive_partitioning=False)
        path = source.open(FILE_NAME)
        path = path if isinstance(path, Path) else source.directory() / FILE_NAME
        return pl.scan_parquet(path, glob=False, hive_partitioning=False)

    def _load_arrow(self, directory: Path, encoding: str) -> pl.DataFrame:
        import polars as pl
        import pyarrow as pa

        return pl.DataFrame(self.registry.load(directory, encoding, pa.Table))


def _check_schema(schema: pl.Schema) -> None:
    """Raise `SaveRefused` for dtypes that come back different; an empty frame is written to find out."""
    import polars as pl

    sink = io.BytesIO()
    _write_parquet(pl.DataFrame(schema=schema), schema, sink, False)
    read = pl.read_parquet(io.BytesIO(sink.getvalue())).schema
    changed = [name for name, dtype in schema.items() if read.get(name) != dtype]
    if changed:
        raise SaveRefused(f"Parquet does not keep the dtype of {', '.join(map(repr, changed))}. Cast the column(s).")


def _write_parquet(frame: pl.DataFrame | pl.LazyFrame, schema: pl.Schema, target: Any, is_series: bool) -> None:
    import polars as pl

    from airflow_zen.materializers.arrow.parquet_writer import row_group_size_for_width

    widths = (8 if dtype.is_numeric() or dtype.is_temporal() else 32 for dtype in schema.dtypes())
    rows, metadata = row_group_size_for_width(sum(widths)), {METADATA_KEY: _SERIES} if is_series else {}
    options: Any = {"compression": "zstd", "compression_level": 1, "row_group_size": rows, "metadata": metadata}
    try:
        if isinstance(frame, pl.LazyFrame):
            frame.sink_parquet(target, maintain_order=True, **options)
        else:
            frame.rechunk().write_parquet(target, **options)
    except pl.exceptions.PolarsError as error:
        kept = {name: dtype for name, dtype in schema.items() if dtype not in (pl.Object, pl.Struct([]))}
        names = ", ".join(map(repr, schema.keys() - kept.keys()))
        raise SaveRefused(
            f"polars does not write {names or 'this frame'} to parquet: {error}. Cast the column(s); make those of Object anew, "
            "as in value.with_columns(pl.Series(name, map(str, value[name])))."
        ) from error


def _summarize(schema: pl.Schema, rows: int, path: Path) -> dict[str, Any]:
    from airflow_zen.materializers.arrow.statistics import file_statistics, summarize_table

    known = file_statistics(path)
    return summarize_table(rows, ((name, dtype, known.get(name, {})) for name, dtype in schema.items()))


def _count_rows(plan: pl.LazyFrame) -> int:
    import polars as pl

    return int(plan.select(pl.len()).collect().item())


def _collect_batches(plan: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    from airflow_zen.materializers.arrow.parquet_writer import MAX_ROW_GROUP_SIZE

    for at in range(0, _count_rows(plan), MAX_ROW_GROUP_SIZE):
        yield plan.slice(at, MAX_ROW_GROUP_SIZE).collect()


def _preview_columns(frame: pl.DataFrame) -> Iterator[TableColumn]:
    for series in frame.get_columns():
        head, size = map(_to_cell, series.head(MAX_PREVIEW_ROWS)), series.estimated_size()
        yield TableColumn(series.name, str(series.dtype), head, int(size), partial(_sample_to_arrow, series))


def _to_cell(value: Any) -> Any:
    return value.to_list() if hasattr(value, "to_list") and len(value) < MAX_PREVIEW_ROWS else value


def _sample_to_arrow(series: pl.Series, rows: list[int]) -> Any:
    import polars as pl

    try:
        return series.gather(rows).alias("").to_arrow()
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{series.dtype} has no Arrow type.") from error
