"""Rows of the round-trip table: Arrow and polars tables."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa


def _table(values: Any, dtype: Any = None) -> pa.Table:
    return pa.table({"x": pa.array(values, dtype)})


def _with_metadata() -> pa.Table:
    schema = pa.schema([pa.field("x", pa.int64(), nullable=False, metadata={"unit": "m"})], metadata={"k": "v"})
    return pa.table({"x": [1, 2]}, schema=schema)


def _polars(values: Any, dtype: Any = None) -> pl.DataFrame:
    return pl.DataFrame({"x": pl.Series(values, dtype=dtype)})


ARROW: dict[str, Any] = {
    "arrow int and str": pa.table({"a": [1, None], "b": ["x", None]}),
    "arrow floats": _table([1.5, float("nan"), None, -0.0]),
    "arrow float16": _table([1.5], pa.float16()),
    "arrow schema metadata": _with_metadata(),
    "arrow empty metadata": pa.table({"a": [1]}).replace_schema_metadata({}),
    "arrow repeated names": pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]),
    "arrow no columns": pa.table({}),
    "arrow no rows": pa.schema([("a", pa.int8()), ("b", pa.string())]).empty_table(),
    "arrow two chunks": pa.concat_tables([_table([1, 2]), _table([3])]),
    "arrow sliced": _table(list(range(100))).slice(10, 5),
    "arrow timestamp seconds": _table([0, None, -5], pa.timestamp("s")),
    "arrow timestamp with zone": _table([1], pa.timestamp("ns", "Europe/Paris")),
    "arrow date32": _table([dt.date(2024, 1, 1)]),
    "arrow date64": _table([1, 86_400_000], pa.date64()),
    "arrow time32 seconds": _table([5], pa.time32("s")),
    "arrow time64": _table([dt.time(1, 2, 3)]),
    "arrow duration": _table([1, None], pa.duration("s")),
    "arrow month interval": _table([(1, 2, 3)], pa.month_day_nano_interval()),
    "arrow decimal128": _table([Decimal("1.10")]),
    "arrow decimal256": _table([Decimal("1.10")], pa.decimal256(60, 2)),
    "arrow null": _table([None, None]),
    "arrow large string": _table(["a"], pa.large_string()),
    "arrow string view": _table(["a", None], pa.string_view()),
    "arrow binary": _table([b"a", None]),
    "arrow fixed-size binary": _table([b"ab"], pa.binary(2)),
    "arrow list": _table([[1], None, [], [None]]),
    "arrow large list": _table([["a"]], pa.large_list(pa.string())),
    "arrow fixed-size list": _table([[1, 2], None], pa.list_(pa.int8(), 2)),
    "arrow struct": _table([{"a": 1, "b": None}, None]),
    "arrow empty struct": _table([{}, None], pa.struct([])),
    "arrow list of struct of list": _table([[{"a": [1]}], []]),
    "arrow map": _table([[("a", 1)], None], pa.map_(pa.string(), pa.int32())),
    "arrow dictionary": pa.table(
        {"x": pa.DictionaryArray.from_arrays(pa.array([0, None], pa.int8()), pa.array(["a", "unused"]))}
    ),
    "arrow ordered dictionary of ints": pa.table(
        {"x": pa.DictionaryArray.from_arrays(pa.array([1]), pa.array([7, 5]), ordered=True)}
    ),
    "arrow extension": pa.table({"x": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16], pa.binary(16)))}),
    "arrow list view": _table([[1], None], pa.list_view(pa.int64())),
    "arrow run-end encoded": pa.table({"x": pa.RunEndEncodedArray.from_arrays([2, 3], [1, 2])}),
    "arrow union": pa.table(
        {"x": pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])])}
    ),
    "arrow record batch": pa.record_batch({"a": [1, 2]}),
    "arrow empty record batch": pa.RecordBatch.from_pylist([], schema=pa.schema([("a", pa.int8())])),
    "arrow record batch with a dictionary": pa.record_batch({"a": pa.array(["x"]).dictionary_encode()}),
    "arrow table in a dict": {"t": _table([1])},
}

POLARS: dict[str, Any] = {
    "polars int and str": pl.DataFrame({"a": [1, None], "b": ["x", None]}),
    "polars floats": _polars([1.5, float("nan"), None, -0.0]),
    "polars float16": _polars([1.5], pl.Float16),
    "polars uint8": _polars([1], pl.UInt8),
    "polars int128": _polars([2**100], pl.Int128),
    "polars bool": _polars([True, None]),
    "polars categorical": _polars(["b", "a", None, "b"], pl.Categorical),
    "polars categorical with a name": _polars(["b"], pl.Categorical(pl.Categories("mine", "ns"))),
    "polars enum": _polars(["b", None], pl.Enum(["c", "b", "unused"])),
    "polars decimal": _polars([Decimal("1.10")], pl.Decimal(10, 3)),
    "polars date": _polars([dt.date(2024, 1, 1)]),
    "polars datetime": _polars([dt.datetime(2024, 1, 1)], pl.Datetime("ns")),
    "polars datetime with zone": _polars([dt.datetime(2024, 1, 1)], pl.Datetime("ms", "Europe/Paris")),
    "polars duration": _polars([dt.timedelta(1)], pl.Duration("ms")),
    "polars time": _polars([dt.time(1, 2)]),
    "polars null": _polars([None]),
    "polars binary": _polars([b"a", None]),
    "polars list": _polars([[1], None, []]),
    "polars array": _polars([[1, 2], None], pl.Array(pl.Int8, 2)),
    "polars struct": _polars([{"a": 1, "b": "x"}, None]),
    "polars list of categorical": _polars([["a"]], pl.List(pl.Categorical)),
    "polars no columns": pl.DataFrame(),
    "polars no rows": pl.DataFrame(schema={"a": pl.Int8}),
    "polars two chunks": pl.concat([_polars([1]), _polars([2])], rechunk=False),
    "polars series": pl.Series("name", [1, None]),
    "polars series without name": pl.Series([1.5]),
    "polars enum series": pl.Series("e", ["a"], dtype=pl.Enum(["a", "b"])),
    "polars frame in a tuple": (pl.DataFrame({"a": [1]}), 2),
}
