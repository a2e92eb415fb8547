"""Categorical columns: readable values in the file where Arrow can hold them, codes where not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import types

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.pandas.rooms import Room
from airflow_zen.materializers.pandas.stored import Note, Stored
from airflow_zen.materializers.registry import MaterializerRegistry

Store = Callable[[MaterializerRegistry, Any], Stored]
Restore = Callable[[pa.Array, Note], Any]


def store_category(registry: MaterializerRegistry, values: Any, store: Store) -> Stored:
    """Store a categorical; its categories, also unused ones, and their order go into the note."""
    coded = store_codes(registry, values.codes, values.categories, store)
    return Stored(coded.values, coded.to_arrow, {"as": "category", "ordered": values.ordered, **coded.note})


def category_room(note: Note, rows: int, restore: Restore) -> Room:
    """Make room for a categorical with the same categories and codes."""
    dtype = pd.CategoricalDtype(note["categories"], note["ordered"])
    return CodesRoom(note, rows, restore, lambda codes: pd.Categorical.from_codes(codes, dtype=dtype))


def store_codes(registry: MaterializerRegistry, codes: Any, categories: pd.Index, store: Store) -> Stored:
    """Store positions in an index; -1 is null.

    The file shows the values themselves where these are distinct and of a flat Arrow type.
    """
    shown = _shown(registry, categories, store)
    if shown is None:
        return Stored(codes, _positions, {"categories": categories, "shown": None})
    values, note = shown
    dictionary = lambda part: pa.DictionaryArray.from_arrays(_positions(part), values)  # noqa: E731
    return Stored(codes, dictionary, {"categories": categories, "shown": note})


class CodesRoom:
    """Fill in positions in an index; -1 for null."""

    def __init__(
        self, note: Note, rows: int, restore: Restore, whole: Callable[[Any], Any] = lambda codes: codes
    ) -> None:
        labels = pd.CategoricalDtype(pd.RangeIndex(len(note["categories"])))
        usual = pd.Categorical.from_codes(np.empty(0, "int64"), dtype=labels).codes.dtype
        self._held = np.full(rows, -1, usual)
        self._note = note
        self._restore = restore
        self._whole = whole
        self._labels: pa.Array | None = None
        self._found: Any = None

    def fill(self, piece: pa.Array, at: int) -> None:
        """Convert a piece."""
        valid = piece.is_valid().to_numpy(zero_copy_only=False)
        self._held[at : at + len(piece)][valid] = self._codes(piece.drop_null())

    def values(self) -> Any:
        """Give what the positions mean."""
        return self._whole(self._held)

    def _codes(self, present: pa.Array) -> Any:
        if self._note["shown"] is None:
            return present.to_numpy()
        if not types.is_dictionary(present.type):
            return self._positions(present)
        # The labels of a row group are mostly those of the one before.
        if self._labels is None or not present.dictionary.equals(self._labels):
            self._labels = present.dictionary
            self._found = self._positions(self._labels).astype(self._held.dtype)
        return self._found[present.indices.to_numpy()]

    def _positions(self, values: pa.Array) -> Any:
        held = self._restore(values, self._note["shown"])
        found = self._note["categories"].get_indexer(pd.Index(held, dtype=held.dtype, tupleize_cols=False))
        if (found < 0).any():
            raise ArtifactRefused(
                f"A column holds {held[found < 0][0]!r}, which is none of its categories. Read it as a pyarrow.Table, and "
                "run the step that made it again."
            )
        return found


def _positions(codes: Any) -> pa.Array:
    return pa.array(codes, mask=codes < 0)


def _shown(registry: MaterializerRegistry, categories: pd.Index, store: Store) -> tuple[pa.Array, Note] | None:
    if not categories.is_unique or categories.hasnans:
        return None
    try:
        stored = store(registry, categories.to_numpy() if isinstance(categories.dtype, np.dtype) else categories.array)
        values = stored.array
    except SaveRefused:
        return None
    flat = not types.is_nested(values.type) and not types.is_dictionary(values.type)
    return (values, stored.note) if flat and not values.null_count else None
