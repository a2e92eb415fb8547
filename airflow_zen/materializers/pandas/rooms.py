"""Room for the rows of a column, which are filled in as they are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import pyarrow as pa


class Room(Protocol):
    """Take the pieces of a column one by one, and give the values of a series or index.

    What is converted piece by piece is in memory once, and not a second time as Arrow.
    """

    def fill(self, piece: pa.Array, at: int) -> None:
        """Take the rows from `at` on."""

    def values(self) -> Any:
        """Give all of them; called once."""


class ArrayRoom:
    """Convert pieces into one NumPy array, and that into the values without a copy."""

    def __init__(
        self,
        dtype: Any,
        rows: int,
        converted: Callable[[pa.Array], Any],
        whole: Callable[[Any], Any] = lambda held: held,
    ) -> None:
        self._held = np.empty(rows, dtype)
        self._converted = converted
        self._whole = whole

    def fill(self, piece: pa.Array, at: int) -> None:
        """Convert a piece."""
        self._held[at : at + len(piece)] = self._converted(piece)

    def values(self) -> Any:
        """Give what the array means."""
        return self._whole(self._held)


class ExtensionRoom:
    """Convert pieces into one extension array of a dtype that can be empty, and be assigned to."""

    def __init__(self, dtype: Any, rows: int) -> None:
        self._dtype = dtype
        self._held = dtype.empty(rows)

    def fill(self, piece: pa.Array, at: int) -> None:
        """Convert a piece."""
        self._held[at : at + len(piece)] = self._dtype.__from_arrow__(piece)

    def values(self) -> Any:
        """Give the array."""
        return self._held


class PiecesRoom:
    """Keep the pieces, which become the values as they are."""

    def __init__(self, kind: pa.DataType, whole: Callable[[pa.ChunkedArray], Any]) -> None:
        self._kind = kind
        self._whole = whole
        self._pieces: list[pa.Array] = []

    def fill(self, piece: pa.Array, at: int) -> None:
        """Keep a piece; they come in order."""
        self._pieces.append(piece)

    def values(self) -> Any:
        """Convert all pieces together."""
        # Dictionaries are read with an index type of parquet's own, so the pieces know better than the schema.
        kind = self._pieces[0].type if self._pieces else self._kind
        return self._whole(pa.chunked_array(self._pieces, kind))
