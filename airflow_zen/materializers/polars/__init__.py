"""polars frames and series as one parquet file, written and read by polars itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import Materializer


class PolarsMaterializer(Materializer):
    """Save `DataFrame` and `Series` of every dtype but `Object`; shows Arrow and pandas tables as polars.

    A `LazyFrame` is a plan and not a value, and is refused; asked for as one, a stored frame is loaded lazy.
    """

    types = ("polars.DataFrame", "polars.Series", "polars.LazyFrame")
    encoding = "polars.parquet@1"
    reads = ("pandas.parquet@1", "pyarrow.parquet@1", "pyarrow.ipc@1")
    libraries = ("polars",)
    extra = "polars"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `table.parquet`."""
        from airflow_zen.materializers.polars.tables import save_table

        return save_table(value, directory)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read a frame or series; an Arrow or pandas table becomes a frame."""
        from airflow_zen.materializers.polars.tables import load_table, load_view

        own = encoding == self.encoding
        value = load_table(directory) if own else load_view(self.registry, directory, encoding)
        return value.lazy() if wanted is not None and wanted.__qualname__ == "LazyFrame" else value
