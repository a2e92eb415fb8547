"""Room for the rows of a column, which are filled in as they are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import pyarrow as pa


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
