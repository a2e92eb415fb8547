"""The parts of a table, one after the other, gathered into the columns of one frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_zen.materializers.arrow.parquet import MAX_ROW_GROUP_SIZE
from airflow_zen.materializers.arrow.stored import RowGroup
from airflow_zen.materializers.pandas.plain import chunk_to_numpy, default_buffer, numpy_dtype
from airflow_zen.materializers.pandas.rooms import ColumnBuffer

# pandas 3 never copies here, and warns of the option.
_NO_COPY: dict[str, Any] = {} if int(pd.__version__.partition(".")[0]) >= 3 else {"copy": False}


class FrameBuilder:
    """Bring each part to its place in a frame made beforehand.

    So a frame needs one row group beside itself: a table that is converted as a whole is in memory twice. Neighbours
    of one NumPy dtype share an array.
    """

    def __init__(self, schema: pa.Schema, rows: int, buffers: Mapping[str, ColumnBuffer]) -> None:
        """Make room for `rows`; `buffers` are those of columns that are more than their Arrow type says."""
        self.rows = rows
        dtypes = {field.name: "" if field.name in buffers else numpy_dtype(field.type) for field in schema}
        runs = [(dtype, tuple(names)) for dtype, names in groupby(dtypes, dtypes.__getitem__)]
        self._runs = [_Block(names, np.empty((len(names), rows), dtype)) if dtype else names for dtype, names in runs]
        self._blocks = [run for run in self._runs if isinstance(run, _Block)]
        buffered_fields = [field for field in schema if not dtypes[field.name]]
        self._buffers = {
            field.name: buffers.get(field.name) or default_buffer(field.type, rows) for field in buffered_fields
        }

    @property
    def targets(self) -> dict[str, np.ndarray[Any, Any]]:
        """Give the arrays of columns whose values may be copied there by whoever reads them."""
        return {name: row for block in self._blocks for name, row in zip(block.names, block.values, strict=True)}

    def add(self, parts: Iterable[RowGroup]) -> FrameBuilder:
        """Take what was not copied to its place already; the rows come in order."""
        for part in parts:
            for block in self._blocks:
                block.fill(part)
            for name, buffer in self._buffers.items():
                for offset, chunk in _chunks_with_offsets(part.decoded[name], part.offset):
                    buffer.fill(chunk, offset)
            # Let go of before the next is read, which takes its place in memory.
            del part
        if self.rows > MAX_ROW_GROUP_SIZE:
            # Arrow would keep what is gone for row groups of its own, and none are coming.
            pa.default_memory_pool().release_unused()
        return self

    def pop_values(self, name: str) -> Any:
        """Hand over the values of a column that had a room, which then is no column of the frame."""
        return self._buffers.pop(name).values()

    def build_frame(self) -> pd.DataFrame:
        """Make the frame of what was not taken."""
        parts = [run.build_frame() if isinstance(run, _Block) else self._buffered_columns(run) for run in self._runs]
        whole = [part for part in parts if part.shape[1]]
        if not whole:
            return pd.DataFrame(index=pd.RangeIndex(self.rows))
        return whole[0] if len(whole) == 1 else pd.concat(whole, axis=1, **_NO_COPY)

    def _buffered_columns(self, names: Iterable[str]) -> pd.DataFrame:
        columns = {name: _to_series(self.pop_values(name)) for name in names if name in self._buffers}
        return pd.DataFrame(columns, index=pd.RangeIndex(self.rows), copy=False)


@dataclass(frozen=True)
class _Block:
    """Some columns of one dtype, as the rows of one array."""

    names: tuple[str, ...]
    values: np.ndarray[Any, Any]

    def fill(self, part: RowGroup) -> None:
        for name, row in zip(self.names, self.values, strict=True):
            for offset, chunk in () if name in part.copied else _chunks_with_offsets(part.decoded[name], part.offset):
                row[offset : offset + len(chunk)] = chunk_to_numpy(chunk, f"Column {name!r}")

    def build_frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.values.T, columns=list(self.names), copy=False)


def _chunks_with_offsets(column: pa.ChunkedArray, offset: int) -> Iterator[tuple[int, pa.Array]]:
    for chunk in column.chunks:
        yield offset, chunk
        offset += len(chunk)


def _to_series(values: Any) -> pd.Series:
    series: pd.Series = pd.Series(values, dtype=values.dtype, copy=False)
    return series
