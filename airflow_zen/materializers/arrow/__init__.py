"""Arrow tables as parquet where it keeps them exactly, else in Arrow's own file format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_zen.materializers.base import Materializer, SavedBatches
from airflow_zen.materializers.previews.tables import MAX_PREVIEW_ROWS, TableColumn, preview_table, sample_rows

if TYPE_CHECKING:
    from airflow_zen.artifacts.reader import ArtifactReader
    from airflow_zen.materializers.annotations import View


class ArrowParquetMaterializer(Materializer):
    """Save `pyarrow.Table` and `RecordBatch` as parquet; also loads pandas and polars tables as Arrow.

    The chunks of a table are not kept, and do not change the bytes. A `RecordBatchReader` or
    `Dataset` is stored, batch by batch, as the table that it reads.
    """

    types: ClassVar[tuple[str, ...]] = (
        "pyarrow.Table",
        "pyarrow.RecordBatch",
        "pyarrow.RecordBatchReader",
        "pyarrow._dataset.Dataset",
    )
    lazy_types: ClassVar[tuple[str, ...]] = ("pyarrow.RecordBatchReader", "pyarrow._dataset.Dataset")
    is_table = True
    encoding = "pyarrow.parquet@1"
    reads: ClassVar[tuple[str, ...]] = ("pyarrow.ipc@1", "pandas.parquet@1", "polars.parquet@1")
    libraries = ("pyarrow",)

    def for_value(self, value: Any) -> Materializer:
        """Return the materializer for Arrow IPC where parquet would change the schema (dictionaries, unions, `date64`, …)."""
        from airflow_zen.materializers.arrow.parquet_writer import roundtrips_in_parquet

        return self if roundtrips_in_parquet(value.schema) else ArrowIpcMaterializer(self.registry)

    def stored_type(self, value: Any) -> type:
        """Return `pyarrow.Table` for a reader or dataset, which is stored as the table that it reads."""
        import pyarrow as pa

        return type(value) if hasattr(value, "num_rows") else pa.Table

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `table.parquet`, or `table.arrow`."""
        from airflow_zen.materializers.arrow.tables import save_arrow

        return save_arrow(self, value, directory)

    def save_batches(self, batches: Iterator[Any], directory: Path) -> SavedBatches:
        """Write record batches or tables as one table, one by one."""
        from airflow_zen.materializers.arrow.tables import save_arrow_batches

        return save_arrow_batches(self, batches, directory)

    def load_view(self, source: ArtifactReader, encoding: str, view: View) -> Any:
        """Return some columns, an iterator of batches, a reader, or a dataset that scans the stored file."""
        from airflow_zen.materializers.arrow.tables import load_arrow_view

        return load_arrow_view(self.registry, source, encoding, view)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the first rows, and a chart of each column."""
        return preview_table(value, summary, (value.num_rows, value.num_columns), _preview_columns(value))

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Return a table or record batch; a pandas index becomes columns."""
        from airflow_zen.materializers.arrow.tables import load_arrow_table

        return load_arrow_table(self.registry, directory, encoding)

    def load_from(self, source: ArtifactReader, encoding: str, wanted: type | None = None) -> Any:
        """Return a large remote table, read while it is downloaded."""
        from airflow_zen.materializers.arrow.tables import load_arrow_stream

        stream = source.stream("table.parquet") if encoding == "pyarrow.parquet@1" else None
        return load_arrow_stream(stream) if stream else super().load_from(source, encoding, wanted)


class ArrowIpcMaterializer(ArrowParquetMaterializer):
    """Save a table of types that parquet does not have as an Arrow IPC file, compressed with zstd."""

    types = ()
    lazy_types = ()
    encoding = "pyarrow.ipc@1"
    reads = ()

    def for_value(self, value: Any) -> Materializer:
        """Return itself: this layout keeps every Arrow type."""
        return self


def _preview_columns(table: Any) -> Iterator[TableColumn]:
    import pyarrow as pa

    # Once for all columns: converting the row numbers takes as long as a chart.
    indices = pa.array(sample_rows(table.num_rows), pa.int64())
    for field, column in zip(table.schema, table.columns, strict=True):
        yield TableColumn(
            name=field.name,
            type=str(field.type),
            head=map(_to_python, column[:MAX_PREVIEW_ROWS]),
            size=column.nbytes,
            sample=partial(_take, column, indices),
        )


def _take(column: Any, indices: Any, _: list[int]) -> Any:
    return column.take(indices)


def _to_python(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, ImportError):
        return str(scalar)  # nanoseconds, which Python's own types do not have
