"""pandas frames, series and indexes as one plain parquet file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.materializers.base import Materializer, SavedBatches

if TYPE_CHECKING:
    from airflow_zen.artifacts.reader import ArtifactReader
    from airflow_zen.materializers.annotations import View


class PandasMaterializer(Materializer):
    """Save `DataFrame`, `Series` and `Index` so that dtypes, axes, names and `attrs` come back the same.

    Columns keep their names in the parquet file where these are unique strings, so that any engine
    reads it; what parquet cannot express is typed JSON in its schema metadata. Also loads Arrow and
    polars tables as pandas.
    """

    types = ("pandas.DataFrame", "pandas.Series", "pandas.Index")
    is_table = True
    encoding = "pandas.parquet@1"
    reads = ("pyarrow.parquet@1", "pyarrow.ipc@1", "polars.parquet@1")
    libraries = ("pandas", "pyarrow", "numpy")

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `table.parquet`, and large categories and unusual axes under `parts/`."""
        from airflow_zen.materializers.pandas.frames import save_pandas

        return save_pandas(self, value, directory)

    def save_batches(self, batches: Iterator[Any], directory: Path) -> SavedBatches:
        """Write frames as one table, one by one."""
        from airflow_zen.materializers.pandas.frames import save_pandas_batches

        return save_pandas_batches(self, batches, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the first rows, and a chart of each column; a series and an index are shown as frames."""
        from airflow_zen.materializers.pandas.frames import preview_pandas

        return preview_pandas(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Return a frame, series or index; a frame for an Arrow or polars table, or a series where that is wanted."""
        from airflow_zen.materializers.pandas.frames import load_foreign_table, load_pandas

        if encoding == self.encoding:
            return load_pandas(self, directory / "table.parquet", directory, wanted)
        return load_foreign_table(self.registry, directory, encoding, wanted)

    def load_from(self, source: ArtifactReader, encoding: str, wanted: type | None = None) -> Any:
        """Return a large remote table, read while it is downloaded."""
        from airflow_zen.materializers.pandas.frames import load_pandas

        stream = source.stream("table.parquet") if encoding == self.encoding else None
        if stream is None:
            return super().load_from(source, encoding, wanted)
        with stream:
            return load_pandas(self, stream, None, wanted)

    def load_view(self, source: ArtifactReader, encoding: str, view: View) -> Any:
        """Return some columns, or an iterator of frames."""
        from airflow_zen.materializers.pandas.frames import load_pandas_view

        return load_pandas_view(self, source, encoding, view)
