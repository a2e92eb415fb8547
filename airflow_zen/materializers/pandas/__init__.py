"""pandas frames, series and indexes as one plain parquet file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.materializers.base import Materializer, SavedBatches
from airflow_zen.materializers.previews.tables import (
    MAX_PREVIEW_COLUMNS,
    MAX_PREVIEW_ROWS,
    MAX_SAMPLED_VALUE_BYTES,
    TableColumn,
    preview_table,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

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
        frame, names = _to_frame(value)
        return preview_table(value, summary, frame.shape, frame_columns(frame, names), frame.index)

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


def frame_columns(frame: pd.DataFrame, names: Sequence[Any]) -> Iterator[TableColumn]:
    """Iterate over the columns of a frame that have `names`, as a preview shows them."""
    for at, name in enumerate(names):
        series = frame.iloc[:, at]
        head, size = series.iloc[:MAX_PREVIEW_ROWS], series.array.nbytes
        yield TableColumn(str(name), str(series.dtype), head, size, partial(_sample_to_arrow, series))


def _to_frame(value: Any) -> tuple[pd.DataFrame, Sequence[Any]]:
    """Return the columns and, apart from them, their names: not every name of an index can be that of a column."""
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        return value, list(value.columns[:MAX_PREVIEW_COLUMNS])
    if isinstance(value, pd.Series):
        return value.rename(0).to_frame(), [value.name]
    frame = value.to_frame(index=False, name=list(range(value.nlevels)) if value.nlevels > 1 else 0)
    return frame, list(value.names)


def _sample_to_arrow(series: pd.Series, rows: list[int]) -> pa.Array:
    import pandas as pd
    import pyarrow as pa

    values = series.iloc[rows]
    texts = [item for item in values if isinstance(item, str)] if values.dtype == object else []
    if sum(map(len, texts)) > MAX_SAMPLED_VALUE_BYTES * len(values):
        raise ValueError("The texts are too long for a chart.")
    zoned = isinstance(values.dtype, pd.DatetimeTZDtype)
    return pa.array(values.dt.tz_localize(None) if zoned else values, from_pandas=True)
