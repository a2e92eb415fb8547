"""Categorical columns: readable values in the file where Arrow can hold them, codes where not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import types

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.pandas.stored import Note, Stored
from airflow_zen.materializers.registry import MaterializerRegistry

Store = Callable[[MaterializerRegistry, Any], Stored]
Restore = Callable[[pa.Array, Note], Any]


def store_category(registry: MaterializerRegistry, values: Any, store: Store) -> Stored:
    """Store a categorical; its categories, also unused ones, and their order go into the note."""
    coded = store_codes(registry, values.codes, values.categories, store)
    return Stored(coded.array, {"as": "category", "ordered": values.ordered, **coded.note})


def restore_category(array: pa.Array, note: Note, restore: Restore) -> Any:
    """Give a categorical with the same categories and codes."""
    dtype = pd.CategoricalDtype(note["categories"], note["ordered"])
    return pd.Categorical.from_codes(restore_codes(array, note, restore), dtype=dtype)


def store_codes(registry: MaterializerRegistry, codes: Any, categories: pd.Index, store: Store) -> Stored:
    """Store positions in an index; -1 is null.

    The file shows the values themselves where these are distinct and of a flat Arrow type.
    """
    positions = pa.array(codes, mask=codes < 0)
    shown = _shown(registry, categories, store)
    if shown is None:
        return Stored(positions, {"categories": categories, "shown": None})
    array = pa.DictionaryArray.from_arrays(positions, shown.array)
    return Stored(array, {"categories": categories, "shown": shown.note})


def restore_codes(array: pa.Array, note: Note, restore: Restore) -> Any:
    """Give the positions back; -1 for null."""
    codes = np.full(len(array), -1, dtype="int64")
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    present = array.drop_null()
    if note["shown"] is None:
        codes[valid] = present.to_numpy()
    elif types.is_dictionary(present.type):
        codes[valid] = _positions(present.dictionary, note, restore)[present.indices.to_numpy()]
    else:
        codes[valid] = _positions(present, note, restore)
    return codes


def _shown(registry: MaterializerRegistry, categories: pd.Index, store: Store) -> Stored | None:
    if not categories.is_unique or categories.hasnans:
        return None
    try:
        stored = store(registry, categories.to_numpy() if isinstance(categories.dtype, np.dtype) else categories.array)
    except SaveRefused:
        return None
    flat = not types.is_nested(stored.array.type) and not types.is_dictionary(stored.array.type)
    return stored if flat and not stored.array.null_count else None


def _positions(values: pa.Array, note: Note, restore: Restore) -> Any:
    found: pd.Index = pd.Index(restore(values, note["shown"]), tupleize_cols=False)
    return note["categories"].get_indexer(found)
