"""Categorical columns: readable values in the file where Arrow can hold them, codes where not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import types

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.pandas.rooms import ColumnBuffer
from airflow_zen.materializers.pandas.stored import ArrowColumn, PandasMetadata
from airflow_zen.materializers.registry import MaterializerRegistry

ToArrow = Callable[[MaterializerRegistry, Any], ArrowColumn]
ToPandas = Callable[[pa.Array, PandasMetadata], Any]


def category_to_arrow(registry: MaterializerRegistry, values: Any, to_arrow: ToArrow) -> ArrowColumn:
    """Store a categorical; its categories, also unused ones, and their order go into the note."""
    coded = codes_to_arrow(registry, values.codes, values.categories, to_arrow)
    return ArrowColumn(coded.values, coded.to_arrow, {"as": "category", "ordered": values.ordered, **coded.metadata})


def category_buffer(metadata: PandasMetadata, rows: int, to_pandas: ToPandas) -> ColumnBuffer:
    """Make room for a categorical with the same categories and codes."""
    dtype = pd.CategoricalDtype(metadata["categories"], metadata["ordered"])
    return CodesBuffer(metadata, rows, to_pandas, lambda codes: pd.Categorical.from_codes(codes, dtype=dtype))


def codes_to_arrow(registry: MaterializerRegistry, codes: Any, categories: pd.Index, to_arrow: ToArrow) -> ArrowColumn:
    """Store positions in an index; -1 is null.

    The file shows the values themselves where these are distinct and of a flat Arrow type.
    """
    shown = _dictionary_values(registry, categories, to_arrow)
    if shown is None:
        return ArrowColumn(codes, _nullable_codes, {"categories": categories, "shown": None})
    values, metadata = shown
    dictionary = lambda part: pa.DictionaryArray.from_arrays(_nullable_codes(part), values)  # noqa: E731
    return ArrowColumn(codes, dictionary, {"categories": categories, "shown": metadata})


class CodesBuffer:
    """Fill in positions in an index; -1 for null."""

    def __init__(
        self,
        metadata: PandasMetadata,
        rows: int,
        to_pandas: ToPandas,
        finalize: Callable[[Any], Any] = lambda codes: codes,
    ) -> None:
        labels = pd.CategoricalDtype(pd.RangeIndex(len(metadata["categories"])))
        usual = pd.Categorical.from_codes(np.empty(0, "int64"), dtype=labels).codes.dtype
        self._array = np.full(rows, -1, usual)
        self._metadata = metadata
        self._to_pandas = to_pandas
        self._finalize = finalize
        self._dictionary: pa.Array | None = None
        self._dictionary_codes: Any = None

    def fill(self, chunk: pa.Array, at: int) -> None:
        """Convert a piece."""
        valid = chunk.is_valid().to_numpy(zero_copy_only=False)
        self._array[at : at + len(chunk)][valid] = self._decode_codes(chunk.drop_null())

    def values(self) -> Any:
        """Give what the positions mean."""
        return self._finalize(self._array)

    def _decode_codes(self, present: pa.Array) -> Any:
        if self._metadata["shown"] is None:
            return present.to_numpy()
        if not types.is_dictionary(present.type):
            return self._category_positions(present)
        # The labels of a row group are mostly those of the one before.
        if self._dictionary is None or not present.dictionary.equals(self._dictionary):
            self._dictionary = present.dictionary
            self._dictionary_codes = self._category_positions(self._dictionary).astype(self._array.dtype)
        return self._dictionary_codes[present.indices.to_numpy()]

    def _category_positions(self, values: pa.Array) -> Any:
        labels = self._to_pandas(values, self._metadata["shown"])
        found = self._metadata["categories"].get_indexer(pd.Index(labels, dtype=labels.dtype, tupleize_cols=False))
        if (found < 0).any():
            raise ArtifactRefused(
                f"A column holds {labels[found < 0][0]!r}, which is none of its categories. Read it as a pyarrow.Table, and "
                "run the step that made it again."
            )
        return found


def _nullable_codes(codes: Any) -> pa.Array:
    return pa.array(codes, mask=codes < 0)


def _dictionary_values(
    registry: MaterializerRegistry, categories: pd.Index, to_arrow: ToArrow
) -> tuple[pa.Array, PandasMetadata] | None:
    if not categories.is_unique or categories.hasnans:
        return None
    try:
        stored = to_arrow(
            registry, categories.to_numpy() if isinstance(categories.dtype, np.dtype) else categories.array
        )
        values = stored.array
    except SaveRefused:
        return None
    flat = not types.is_nested(values.type) and not types.is_dictionary(values.type)
    return (values, stored.metadata) if flat and not values.null_count else None
