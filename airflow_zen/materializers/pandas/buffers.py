"""Columns on their way to a file as Arrow, and on their way back into memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_zen.errors import SaveRefused

PandasMetadata = Mapping[str, Any]


@dataclass(frozen=True)
class ArrowColumn:
    """The values of a column, the function that converts some of them to Arrow, and what their Arrow type does not say.

    A frame is converted a few rows at a time, so that it is in memory once. `metadata` holds for all rows; it is empty
    for the usual dtypes.
    """

    values: Any
    to_arrow: Callable[[Any], Any]
    metadata: PandasMetadata = field(default_factory=dict)

    @property
    def type(self) -> pa.DataType:
        """Return the Arrow type, which is the same for all rows."""
        return self.convert(self.values[:0]).type

    def convert(self, values: Any) -> pa.Array:
        """Return some of the values as one Arrow array; raise `SaveRefused` for a value that Arrow does not have."""
        try:
            array = self.to_arrow(values)
        except (pa.ArrowException, UnicodeEncodeError) as error:
            raise SaveRefused(f"A column of dtype {self.values.dtype} does not fit into Arrow: {error}") from error
        if not isinstance(array, pa.ChunkedArray):
            return array
        return array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()


class ColumnBuffer:
    """Collect the chunks of a column in order, and return the values of a series or index.

    Each chunk is converted and copied into one array as it arrives, so that the column is never in memory a second time
    as Arrow. `array` is that array, by default a new one. `finalize` makes the values of it.
    """

    def __init__(
        self,
        arrow_type: pa.DataType,
        rows: int,
        convert: Callable[[pa.Array], Any],
        finalize: Callable[[Any], Any] = lambda array: array,
        array: Any = None,
    ) -> None:
        self._arrow_type = arrow_type
        self._rows = rows
        self._convert = convert
        self._finalize = finalize
        self._array = array

    def fill(self, chunk: pa.Array, at: int) -> None:
        """Convert the rows that begin at `at`."""
        if not len(chunk):
            return
        values = self._convert(chunk)
        if self._array is None:
            self._array = _allocate(values, self._rows)
        self._array[at : at + len(chunk)] = values

    def values(self) -> Any:
        """Return the values of all rows."""
        return self._finalize(self._convert(pa.array([], self._arrow_type)) if self._array is None else self._array)


class ChunkBuffer:
    """Collect the chunks of a column that become its values without a copy; `finalize` joins the converted chunks."""

    def __init__(
        self,
        arrow_type: pa.DataType,
        finalize: Callable[[list[Any]], Any],
        convert: Callable[[pa.Array], Any] = lambda chunk: chunk,
    ) -> None:
        self._arrow_type = arrow_type
        self._finalize = finalize
        self._convert = convert
        self._chunks: list[Any] = []

    def fill(self, chunk: pa.Array, at: int) -> None:
        """Convert the next rows."""
        self._chunks.append(self._convert(chunk))

    def values(self) -> Any:
        """Return the values of all rows."""
        # Dictionaries are read with an index type of parquet's own, so the type of the column counts only without chunks.
        return self._finalize(self._chunks or [self._convert(pa.array([], self._arrow_type))])


Buffer = ColumnBuffer | ChunkBuffer


def _allocate(values: Any, rows: int) -> Any:
    """Return an array of `rows` to which values of this dtype can be assigned."""
    if isinstance(values, np.ndarray):
        return np.empty(rows, values.dtype)
    # An interval dtype has no empty arrays of its own.
    return values[:1].repeat(rows) if isinstance(values.dtype, pd.IntervalDtype) else values.dtype.empty(rows)
