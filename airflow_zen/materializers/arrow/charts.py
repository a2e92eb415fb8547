"""Charts of Arrow arrays, computed by Arrow: 10,000 values take less than a millisecond."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from airflow_zen.materializers.previews.charts import BINS, MAX_TOP_VALUES, histogram, top_values
from airflow_zen.materializers.previews.html import Markup

_MAX_TEXT_LENGTH = 200
_NAMED_TYPES = (types.is_boolean, types.is_string, types.is_large_string, types.is_string_view)
_ORDERED_TYPES = (types.is_integer, types.is_floating, types.is_temporal, types.is_decimal)


def column_chart(sample: Callable[[list[int]], Any], rows: list[int]) -> Markup:
    """Return the chart of the Arrow array that `sample` gives for some rows.

    It is empty where all values are missing, or are neither ordered nor text, or where the column has no Arrow form.
    """
    try:
        values = sample(rows)
        if types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if any(check(values.type) for check in _NAMED_TYPES):
            return _top_values(values)
        return _histogram(values) if any(check(values.type) for check in _ORDERED_TYPES) else Markup("")
    except (pa.ArrowException, TypeError, ValueError, OverflowError, NotImplementedError):
        return Markup("")  # such as for objects of several types


def _histogram(values: Any) -> Markup:
    numbers = _to_float64(values)
    mask = pc.is_finite(numbers)
    numbers, values = numbers.filter(mask), values.filter(mask)
    if not len(numbers):
        return Markup("")
    bounds = pc.min_max(numbers)
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if not math.isfinite(high - low):
        return Markup("")
    first, last = (_format_bound(values[pc.index(numbers, edge).as_py()]) for edge in (bounds["min"], bounds["max"]))
    if low == high:
        return histogram(first, last, [len(numbers)])
    # A small range of integers has a bar for each: bins of equal width would leave gaps between them.
    whole = types.is_integer(values.type) and high - low < BINS
    bins, width = (int(high - low) + 1, 1.0) if whole else (BINS, (high - low) / BINS)
    bin_indices = pc.floor(pc.divide(pc.subtract(numbers, low), width))
    bin_indices = pc.min_element_wise(bin_indices, pa.scalar(float(bins - 1))).cast(pa.int8())
    counts = {pair["values"]: pair["counts"] for pair in pc.value_counts(bin_indices).to_pylist()}
    return histogram(first, last, [counts.get(bin_index, 0) for bin_index in range(bins)])


def _top_values(values: Any) -> Markup:
    values = values.drop_null()
    if not len(values):
        return Markup("")
    if not types.is_boolean(values.type):
        values = pc.utf8_slice_codeunits(values.cast(pa.large_string()), 0, _MAX_TEXT_LENGTH)
    pairs = pc.value_counts(values).to_pylist()
    pairs.sort(key=lambda pair: (-pair["counts"], str(pair["values"])))
    top = [(str(pair["values"]), pair["counts"]) for pair in pairs[:MAX_TOP_VALUES]]
    return top_values(top, sum(pair["counts"] for pair in pairs[MAX_TOP_VALUES:]))


def _to_float64(values: Any) -> Any:
    if types.is_temporal(values.type):
        narrow = types.is_date32(values.type) or types.is_time32(values.type)
        values = values.cast(pa.int32() if narrow else pa.int64())
    return values.cast(pa.float64(), safe=False)


def _format_bound(value: Any) -> str:
    if types.is_floating(value.type):
        return f"{value.as_py():.6g}"
    return str(value.cast(pa.string()))
