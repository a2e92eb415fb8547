"""How the values of a parquet column are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pyarrow import types

from airflow_zen.materializers.arrow.distinct import estimated_distinct

# Fewer values in a row group are written in no time.
_WORTH_ASKING = 1 << 16
_ASKED = 1 << 13
# Measured on 1,000,000 integers below 1e9: a dictionary that nothing repeats in costs 134 ms to write, 19 ms to read and
# 5.2 MB; differences cost 20 ms, 4 ms and 3.9 MB. Timestamps in order, as they are: 20 ms, 12 ms and 7.1 MB; differences
# 31 ms, 5 ms and 4.5 MB. Values of all 64 bits, of which each is there four times, need half as much in a dictionary.
_REPEATED = 4


def encoding(group: pa.Table) -> Mapping[str, Any]:
    """Give the options of a writer whose first row group this is: differences where large numbers and times do not repeat.

    All else that is no float has a dictionary. The same rows always give the same answer.
    """
    fields = list(zip(group.schema, group.columns, strict=True))
    differences = {field.name for field, column in fields if _is_counted(field.type) and not _repeats(column)}
    repeating = [field.name for field, _ in fields if _may_repeat(field.type) and field.name not in differences]
    return {"use_dictionary": repeating, "column_encoding": dict.fromkeys(differences, "DELTA_BINARY_PACKED") or None}


def _repeats(column: pa.ChunkedArray) -> bool:
    """Tell whether values in the middle of a column let expect that most are there several times."""
    if len(column) < _WORTH_ASKING:
        return True
    sample = column.slice((len(column) - _ASKED) // 2, _ASKED).drop_null()
    rows = len(column) - column.null_count
    return not len(sample) or estimated_distinct(sample, rows) * _REPEATED < rows


def _is_counted(dtype: Any) -> bool:
    """Tell whether parquet has the values as whole numbers of 32 or 64 bits; fewer bits repeat."""
    times = types.is_timestamp(dtype) or types.is_duration(dtype) or types.is_time(dtype) or types.is_date32(dtype)
    return bool(times or (types.is_integer(dtype) and dtype.bit_width >= 32))


def _may_repeat(dtype: Any) -> bool:
    """Tell whether values of a type are worth a dictionary; one of floats only costs time."""
    return not (types.is_floating(dtype) or types.is_nested(dtype))
