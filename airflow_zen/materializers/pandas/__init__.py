"""pandas frames, series and indexes as one plain parquet file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.materializers.base import Materializer, SavedBatches

if TYPE_CHECKING:
    from airflow_zen.artifacts.source import ArtifactSource
    from airflow_zen.materializers.views import View


class PandasMaterializer(Materializer):
    """Save `DataFrame`, `Series` and `Index` so that dtypes, axes, names and `attrs` come back the same.

    Columns keep their names in the parquet file where these are unique strings, so that any engine
    reads it; what parquet cannot say stands as typed JSON in its schema metadata. Shows Arrow and
    polars tables as pandas.
    """

    types = ("pandas.DataFrame", "pandas.Series", "pandas.Index")
    is_table = True
    encoding = "pandas.parquet@1"
    reads = ("pyarrow.parquet@1", "pyarrow.ipc@1", "polars.parquet@1")
    libraries = ("pandas", "pyarrow", "numpy")

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `table.parquet`; large categories and unusual axes beside it under `parts/`."""
        from airflow_zen.materializers.pandas.saving import save

        return save(self, value, directory)

    def save_batches(self, batches: Iterator[Any], directory: Path) -> SavedBatches:
        """Write frames below one another."""
        from airflow_zen.materializers.pandas.batches import save_batches

        return save_batches(self, batches, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the first rows, and a chart of each column."""
        from airflow_zen.materializers.pandas.preview import preview

        return preview(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the frame, series or index; an Arrow or polars table becomes a frame, a series too for who asks."""
        from airflow_zen.materializers.pandas.loading import as_wanted, load, load_view

        if encoding != self.encoding:
            return load_view(self, directory, encoding, wanted)
        return as_wanted(load(self, directory), wanted)

    def load_from(self, source: ArtifactSource, encoding: str, wanted: type | None = None) -> Any:
        """Read a large remote table while it arrives."""
        from airflow_zen.materializers.pandas.loading import as_wanted, load_arriving

        arriving = source.arriving("table.parquet") if encoding == self.encoding else None
        if not arriving:
            return super().load_from(source, encoding, wanted)
        return as_wanted(load_arriving(self, arriving), wanted)

    def load_view(self, source: ArtifactSource, encoding: str, view: View) -> Any:
        """Read columns, or frames one by one."""
        from airflow_zen.materializers.pandas.views import load_view

        return load_view(self, source, encoding, view)
