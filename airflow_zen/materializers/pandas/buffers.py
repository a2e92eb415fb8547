"""What a column becomes on its way to a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from airflow_zen.errors import SaveRefused

PandasMetadata = Mapping[str, Any]


@dataclass(frozen=True)
class ArrowColumn:
    """Values, what makes an Arrow array of some of them, and what its type does not say: nothing in the usual case.

    A frame is converted a few rows at a time, so that it is in memory once. What is noted holds for all rows.
    """

    values: Any
    to_arrow: Callable[[Any], pa.Array]
    metadata: PandasMetadata = field(default_factory=dict)

    @property
    def array(self) -> pa.Array:
        """Convert all values."""
        return self.convert_rows(0, len(self.values))

    @property
    def type(self) -> pa.DataType:
        """Give the type that every part has."""
        return self.convert_rows(0, 0).type

    def convert_rows(self, at: int, rows: int) -> pa.Array:
        """Convert the values of some rows; raises `SaveRefused` for one that Arrow has not."""
        try:
            return self.to_arrow(self.values[at : at + rows])
        except (pa.ArrowException, UnicodeEncodeError) as error:
            raise SaveRefused(f"A column of dtype {self.values.dtype} does not fit into Arrow: {error}") from error


def to_single_array(array: Any) -> pa.Array:
    """Give the one array of a chunked one; joining copies, so a single chunk is taken as it is."""
    if not isinstance(array, pa.ChunkedArray):
        return array
    return array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()


class ColumnBuffer(Protocol):
    """Take the pieces of a column one by one, and give the values of a series or index.

    What is converted piece by piece is in memory once, and not a second time as Arrow.
    """

    def fill(self, chunk: pa.Array, at: int) -> None:
        """Take the rows from `at` on."""

    def values(self) -> Any:
        """Give all of them; called once."""


class ArrayBuffer:
    """Convert pieces into one NumPy array, and that into the values without a copy."""

    def __init__(
        self,
        dtype: Any,
        rows: int,
        convert: Callable[[pa.Array], Any],
        finalize: Callable[[Any], Any] = lambda array: array,
    ) -> None:
        self._array = np.empty(rows, dtype)
        self._convert = convert
        self._finalize = finalize

    def fill(self, chunk: pa.Array, at: int) -> None:
        """Convert a piece."""
        self._array[at : at + len(chunk)] = self._convert(chunk)

    def values(self) -> Any:
        """Give what the array means."""
        return self._finalize(self._array)


class ExtensionBuffer:
    """Convert pieces into one extension array of a dtype that can be empty, and be assigned to."""

    def __init__(self, dtype: Any, rows: int) -> None:
        self._dtype = dtype
        self._array = dtype.empty(rows)

    def fill(self, chunk: pa.Array, at: int) -> None:
        """Convert a piece."""
        self._array[at : at + len(chunk)] = self._dtype.__from_arrow__(chunk)

    def values(self) -> Any:
        """Give the array."""
        return self._array


class ChunkBuffer:
    """Keep the pieces, which become the values as they are."""

    def __init__(self, arrow_type: pa.DataType, finalize: Callable[[pa.ChunkedArray], Any]) -> None:
        self._arrow_type = arrow_type
        self._finalize = finalize
        self._chunks: list[pa.Array] = []

    def fill(self, chunk: pa.Array, at: int) -> None:
        """Keep a piece; they come in order."""
        self._chunks.append(chunk)

    def values(self) -> Any:
        """Convert all pieces together."""
        # Dictionaries are read with an index type of parquet's own, so the pieces know better than the schema.
        arrow_type = self._chunks[0].type if self._chunks else self._arrow_type
        return self._finalize(pa.chunked_array(self._chunks, arrow_type))
