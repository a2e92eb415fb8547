"""polars frames and series as one parquet file, written and read by polars itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.base import Materializer, SavedBatches

if TYPE_CHECKING:
    from airflow_zen.artifacts.source import ArtifactReader
    from airflow_zen.materializers.views import View


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
        from airflow_zen.materializers.polars.tables import stored_polars_type

        return stored_polars_type(value)

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `table.parquet`."""
        from airflow_zen.materializers.polars.tables import save_polars_table

        return save_polars_table(value, directory)

    def save_batches(self, batches: Iterator[Any], directory: Path) -> SavedBatches:
        """Refuse: only polars itself writes polars' layout."""
        raise SaveRefused("polars frames are not written one by one. Return a polars.LazyFrame, which polars streams.")

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the first rows, and a chart of each column."""
        from airflow_zen.materializers.polars.preview import preview_polars

        return preview_polars(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read a frame or series; an Arrow or pandas table becomes a frame."""
        from airflow_zen.materializers.polars.tables import load_foreign_table, load_polars_table

        own = encoding == self.encoding
        value = load_polars_table(directory) if own else load_foreign_table(self.registry, directory, encoding)
        requested_type = getattr(wanted, "__qualname__", "")
        if requested_type == "DataFrame" and type(value).__qualname__ == "Series":
            return value.to_frame()
        return value.lazy() if requested_type == "LazyFrame" else value

    def load_view(self, source: ArtifactReader, encoding: str, view: View) -> Any:
        """Read columns, frames one by one, or a plan that scans the file where it lies."""
        from airflow_zen.materializers.polars.views import load_polars_view

        return load_polars_view(self.registry, source, encoding, view)
