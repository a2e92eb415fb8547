"""How the values of a parquet column are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pyarrow import types

from airflow_zen.materializers.arrow.distinct import estimate_distinct

# Fewer values in a row group are written in no time.
_MIN_COLUMN_ROWS = 1 << 16
_SAMPLE_ROWS = 1 << 13
# Measured on 1,000,000 integers below 1e9: a dictionary that nothing repeats in costs 134 ms to write, 19 ms to read and
# 5.2 MB; differences cost 20 ms, 4 ms and 3.9 MB. Timestamps in order, as they are: 20 ms, 12 ms and 7.1 MB; differences
# 31 ms, 5 ms and 4.5 MB. Values of all 64 bits, of which each is there four times, need half as much in a dictionary.
_MIN_REPETITIONS = 4


def encoding_options(group: pa.Table) -> Mapping[str, Any]:
    """Give the options of a writer whose first row group this is: differences where large numbers and times do not repeat.

    All else that is no float has a dictionary. The same rows always give the same answer.
    """
    fields = list(zip(group.schema, group.columns, strict=True))
    delta_encoded = {
        field.name for field, column in fields if _is_delta_encodable(field.type) and not _has_repeated_values(column)
    }
    dictionary_encoded = [
        field.name for field, _ in fields if _is_dictionary_encodable(field.type) and field.name not in delta_encoded
    ]
    return {
        "use_dictionary": dictionary_encoded,
        "column_encoding": dict.fromkeys(delta_encoded, "DELTA_BINARY_PACKED") or None,
    }


def _has_repeated_values(column: pa.ChunkedArray) -> bool:
    """Tell whether values in the middle of a column let expect that most are there several times."""
    if len(column) < _MIN_COLUMN_ROWS:
        return True
    sample = column.slice((len(column) - _SAMPLE_ROWS) // 2, _SAMPLE_ROWS).drop_null()
    rows = len(column) - column.null_count
    return not len(sample) or estimate_distinct(sample, rows) * _MIN_REPETITIONS < rows


def _is_delta_encodable(dtype: Any) -> bool:
    """Tell whether parquet has the values as whole numbers of 32 or 64 bits; fewer bits repeat."""
    times = types.is_timestamp(dtype) or types.is_duration(dtype) or types.is_time(dtype) or types.is_date32(dtype)
    return bool(times or (types.is_integer(dtype) and dtype.bit_width >= 32))


def _is_dictionary_encodable(dtype: Any) -> bool:
    """Tell whether values of a type are worth a dictionary; one of floats only costs time."""
    return not (types.is_floating(dtype) or types.is_nested(dtype))
