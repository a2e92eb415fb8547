"""Rows of the round-trip table: pandas frames, series and indexes."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytz

from tests.materializers import records as r

F = pd.DataFrame
S = pd.Series


def _objects(*values: Any) -> F:
    return F({"x": S([*values], dtype=object)})


def _attrs() -> F:
    frame = F({"a": [1]})
    frame.attrs = {"source": "s3", "rows": (1, 2)}
    return frame


def _nan_in_float64() -> F:
    return F({"x": pd.arrays.FloatingArray(np.array([1.0, np.nan, 2.0]), np.array([False, False, True]))})


def _arrow(values: Any, dtype: pa.DataType) -> F:
    return F({"a": pd.array(values, dtype=pd.ArrowDtype(dtype))})


def _multi(**options: Any) -> pd.MultiIndex:
    return pd.MultiIndex.from_product([["a", "b"], [1, 2]], **options)


def _unsorted_multi() -> pd.MultiIndex:
    return pd.MultiIndex(levels=[["z", "a", "unused"], [2, 1]], codes=[[0, 1, -1], [1, 0, 0]], names=["n", None])


COLUMNS: dict[str, Any] = {
    "frame of int, float, str, bool": F({"a": [1, 2], "b": [1.5, np.nan], "c": ["x", None], "d": [True, False]}),
    "frame of small dtypes": F({c: np.array([1, 2], c) for c in ("i1", "u2", "f4", "u8", "f2")}),
    "frame of negative zero": F({"a": [-0.0, 0.0]}),
    "frame of complex": F({"a": np.array([1 + 2j, complex(np.nan, -0.0)]), "b": np.array([1j, 2], "c8")}),
    "datetime s": F({"a": np.array(["2024-01-01", "NaT"], "M8[s]")}),
    "datetime ms": F({"a": np.array(["2024-01-01", "NaT"], "M8[ms]")}),
    "datetime us": F({"a": np.array(["2024-01-01", "NaT"], "M8[us]")}),
    "datetime ns": F({"a": np.array(["2024-01-01", "NaT"], "M8[ns]")}),
    "datetime paris": F({"a": pd.to_datetime(["2024-07-01", None]).tz_localize("Europe/Paris")}),
    "datetime utc": F({"a": pd.date_range("2024", periods=2, tz="UTC")}),
    "datetime offset": F({"a": pd.date_range("2024", periods=2, tz=dt.timezone(dt.timedelta(hours=-3, minutes=-30)))}),
    "datetime in a pytz zone": F({"a": pd.date_range("2024", periods=2, tz=pytz.timezone("Europe/Paris"))}),
    "datetime odd offset": F({"a": pd.date_range("2024", periods=1, tz=dt.timezone(dt.timedelta(seconds=5)))}),
    "datetime ns paris": F({"a": S(pd.date_range("2024", periods=2, tz="Europe/Paris", unit="ns"))}),
    "timedelta": F({"a": pd.to_timedelta([1, None], unit="s"), "b": np.array([1, 2], "m8[s]")}),
    "category of str": F({"a": pd.Categorical(["x", None, "y"], categories=["y", "x", "unused"], ordered=True)}),
    "category of int": F({"a": pd.Categorical([2**62 + 1, None, 7])}),
    "category of float": F({"a": pd.Categorical([1.5, 2.5, 1.5])}),
    "category of durations": F({u: pd.Categorical(np.array([1, 2], f"m8[{u}]")) for u in ("s", "ms", "us", "ns")}),
    "category of surrogates": F({"a": pd.Categorical(pd.Index(["\ud800", "b"], dtype=object))}),
    "category of bool": F({"a": pd.Categorical([True, False, None])}),
    "category of dates": F({"a": pd.Categorical(pd.to_datetime(["2024-01-01", "2023-01-01"]))}),
    "category of intervals": F({"a": pd.cut(S([1.0, 2.0, 3.0]), 2)}),
    "category of mixed": F({"a": pd.Categorical([1, "a", (1, 2)], categories=["a", 1, (1, 2)])}),
    "category of str objects": F({"a": pd.Categorical(["x"], categories=pd.Index(["x", "y"], dtype=object))}),
    "category without values": F({"a": pd.Categorical([None, None], categories=["x"])}),
    "category without categories": F({"a": pd.Categorical([None])}),
    "category of 2000 labels": F({"a": pd.Categorical([f"v{i}" for i in range(2000)])}),
    "category of nullable ints": F({"a": pd.Categorical(pd.array([1, 2, None], dtype="Int64"))}),
    "period": F({"a": pd.PeriodIndex(["2024-01", None], freq="M"), "b": pd.period_range("2024", periods=2, freq="Q")}),
    "interval": F({"a": pd.arrays.IntervalArray.from_tuples([(0, 1), (1, 2)], closed="left")}),
    "interval with missing": F({"a": pd.arrays.IntervalArray.from_tuples([(0.5, 1), None])}),
    "interval of times": F({"a": pd.interval_range(pd.Timestamp("2024"), periods=2)}),
    "sparse int": F({"a": pd.arrays.SparseArray([0, 0, 1])}),
    "sparse float": F({"a": pd.arrays.SparseArray([np.nan, 1.0, 2.0], kind="block")}),
    "sparse with other fill": F({"a": pd.arrays.SparseArray([5.0, 5.0, 1.0], fill_value=5.0)}),
    "sparse bool": F({"a": pd.arrays.SparseArray([True, False], fill_value=False)}),
    "nullable ints": F({d: pd.array([1, None], dtype=d) for d in ("Int8", "UInt16", "Int64")}),
    "nullable int beyond float": F({"a": pd.array([2**62 + 1, None], dtype="Int64")}),
    "nullable floats": F({d: pd.array([1.5, None], dtype=d) for d in ("Float32", "Float64")}),
    "nullable float with nan": _nan_in_float64(),
    "nullable boolean": F({"a": pd.array([True, None], dtype="boolean")}),
    "string python NA": F({"a": pd.array(["x", None], dtype="string[python]")}),
    "string pyarrow NA": F({"a": pd.array(["x", None], dtype="string[pyarrow]")}),
    "str python nan": F({"a": pd.array(["x", None], dtype=pd.StringDtype("python", na_value=np.nan))}),
    "str pyarrow nan": F({"a": pd.array(["x", None], dtype=pd.StringDtype("pyarrow", na_value=np.nan))}),
    "arrow int": F({"a": pd.array([1, None], dtype=pd.ArrowDtype(pa.int32()))}),
    "arrow string": F({"a": pd.array(["x", None], dtype=pd.ArrowDtype(pa.string()))}),
    "arrow list": F({"a": pd.array([[1], None], dtype=pd.ArrowDtype(pa.list_(pa.int64())))}),
    "arrow timestamp s": F({"a": pd.array([0, None], dtype=pd.ArrowDtype(pa.timestamp("s", "UTC")))}),
    "arrow decimal": F({"a": pd.array([Decimal("1.10")], dtype=pd.ArrowDtype(pa.decimal128(5, 2)))}),
    "arrow date and time": F({"a": pd.array([dt.date(2024, 1, 1)], dtype=pd.ArrowDtype(pa.date32()))}),
    "arrow struct": _arrow([{"x": 1, "y": None}, None], pa.struct([("x", pa.int8()), ("y", pa.string())])),
    "arrow map": _arrow([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
    "arrow binary": _arrow([b"a", None], pa.binary()),
    "arrow large string": _arrow(["x", None], pa.large_string()),
    "arrow bool": _arrow([True, None], pa.bool_()),
    "arrow null": _arrow([None, None], pa.null()),
    "arrow nan and null": _arrow([float("nan"), None, 1.0], pa.float64()),
    "arrow duration": _arrow([1, None], pa.duration("ms")),
    "arrow time": _arrow([dt.time(1, 2, 3), None], pa.time64("us")),
    "arrow timestamp ns in paris": _arrow([0, None], pa.timestamp("ns", "Europe/Paris")),
    "arrow decimal256": _arrow([Decimal("1.10")], pa.decimal256(60, 2)),
    "sparse str": F({"a": pd.arrays.SparseArray(np.array(["a", None], object), fill_value=None)}),
    "objects: str": _objects("a", "b"),
    "objects: str and None": _objects("a", None),
    "objects: str and nan": _objects("a", np.nan),
    "objects: str and NA": _objects("a", pd.NA),
    "objects: str, None and nan": _objects("a", None, np.nan),
    "objects: None": _objects(None, None),
    "objects: bytes": _objects(b"a", None),
    "objects: bool and None": _objects(True, None),
    "objects: bool and nan": _objects(True, np.nan),
    "objects: bool": _objects(True, False),
    "objects: int": _objects(1, 2),
    "objects: int and None": _objects(2**62 + 1, None),
    "objects: int and NaT": _objects(1, pd.NaT),
    "objects: huge int": _objects(2**100),
    "objects: float and int": _objects(1.0, 1),
    "objects: dates": _objects(dt.date(2024, 1, 1), None),
    "objects: decimals": _objects(Decimal("1.0"), Decimal("1.00")),
    "objects: uuids": _objects(uuid.UUID(int=1)),
    "objects: mixed": _objects(1, "a", None, (1, 2), [3], {"k": 1}, {1, 2}, b"x"),
    "objects: dicts": _objects({"x": 1}, {"x": 1, "y": None}),
    "objects: lists": _objects([1, 2], [3, 4]),
    "objects: small arrays": _objects(np.array([1, 2]), np.array([3.5])),
    "objects: records": _objects(r.Params(1), r.Color.RED, r.Point(1, 2)),
    "objects: timestamps": _objects(pd.Timestamp("2024"), pd.Timestamp("2024", tz="Europe/Paris"), pd.Timedelta(1)),
    "objects: periods and intervals": _objects(pd.Period("2024-01", "M"), pd.Interval(0, 1)),
    "objects: numpy scalars": _objects(np.float32(1), np.str_("a")),
    "objects: surrogates": _objects("\ud800", "a"),
}

AXES: dict[str, Any] = {
    "frame without anything": F(),
    "frame without columns": F(index=[1, 2]),
    "frame without columns but a range": F(index=range(3)),
    "frame without rows": F({"a": np.array([], "i4"), "b": np.array([], "M8[s]"), "c": S([], dtype="str")}),
    "frame without rows, objects": F({"a": S([], dtype=object)}),
    "columns: ints": F({1: [1], 0: [2]}),
    "columns: mixed": F([[1, 2, 3]], columns=[1, "1", None]),
    "columns: repeated": F([[1, 2]], columns=["a", "a"]),
    "columns: tuples not multi": F([[1]], columns=pd.Index([("a", 1)], tupleize_cols=False)),
    "columns: timestamps": F([[1, 2]], columns=pd.date_range("2024", periods=2)),
    "columns: multi": F([[1, 2, 3, 4]], columns=_multi(names=["u", None])),
    "columns: named": F([[1]], columns=pd.Index(["a"], name="n")),
    "columns: object dtype": F([[1]], columns=pd.Index(["a"], dtype=object)),
    "columns: range": F(np.zeros((2, 3))),
    "columns: floats": F([[1, 2]], columns=[0.5, np.nan]),
    "columns: category": F([[1, 2]], columns=pd.CategoricalIndex(["x", "y"])),
    "columns: strange names": F([[1, 2, 3, 4]], columns=["", "a.b", "a b", "__index_level_0__"]),
    "columns: surrogates": F([[1, 2]], columns=pd.Index(["\ud800", "b"], dtype=object)),
    "columns: surrogates among strings": F([[1]], index=pd.Index(["x"], name="\udfff")),
    "columns: 2000": F(np.zeros((1, 2000)), columns=[f"c{i}" for i in range(2000)]),
    "index: str": F({"a": [1]}, index=["x"]),
    "index: named like a column": F({"a": [1]}, index=pd.Index(["x"], name="a")),
    "index: int, repeated": F({"a": [1, 2]}, index=[5, 5]),
    "index: range with step": F({"a": [1, 2]}, index=pd.RangeIndex(10, 6, -2, name="r")),
    "index: range that is an int index": F({"a": [1, 2]}, index=pd.Index([0, 1])),
    "index: datetime with freq": F({"a": [1, 2]}, index=pd.date_range("2024", periods=2, freq="D", name="t")),
    "index: datetime without freq": F({"a": [1]}, index=pd.DatetimeIndex(["2024"])),
    "index: datetime in paris, monthly": F(
        {"a": [1, 2]}, index=pd.date_range("2024", periods=2, freq="MS", tz="Europe/Paris")
    ),
    "index: timedelta": F({"a": [1, 2]}, index=pd.timedelta_range("1h", periods=2)),
    "index: period": F({"a": [1, 2]}, index=pd.period_range("2024", periods=2, freq="W")),
    "index: interval": F({"a": [1, 2]}, index=pd.interval_range(0, 2)),
    "index: category": F({"a": [1, 2]}, index=pd.CategoricalIndex(["x", "y"], categories=["y", "x"])),
    "index: object mixed": F({"a": [1, 2]}, index=[1, "a"]),
    "index: tuples not multi": F({"a": [1]}, index=pd.Index([("a", 1)], tupleize_cols=False)),
    "index: nullable": F({"a": [1, 2]}, index=pd.Index(pd.array([1, None], dtype="Int64"))),
    "index: float with nan": F({"a": [1, 2]}, index=[1.5, np.nan]),
    "index: bool": F({"a": [1, 2]}, index=[True, False]),
    "index: multi": F({"a": [1, 2, 3, 4]}, index=_multi(names=["u", "v"])),
    "index: multi unsorted, missing, unused": F({"a": [1, 2, 3]}, index=_unsorted_multi()),
    "index: multi of times": F(
        {"a": [1, 2]}, index=pd.MultiIndex.from_arrays([pd.date_range("2024", periods=2), ["a", "b"]])
    ),
    "index: multi of intervals": F({"a": [1]}, index=pd.MultiIndex.from_arrays([pd.interval_range(0, 1), ["a"]])),
    "index: multi with equal names": F({"a": [1, 2, 3, 4]}, index=_multi(names=["u", "u"])),
    "index: empty multi": F({"a": []}, index=pd.MultiIndex.from_arrays([[], []])),
    "index: arrow": F({"a": [1, 2]}, index=pd.Index(pd.array([1, None], dtype=pd.ArrowDtype(pa.int32())), name="i")),
    "index: complex": F({"a": [1, 2]}, index=pd.Index([1j, 2])),
    "index: small dtype": F({"a": [1, 2]}, index=pd.Index([1, 2], dtype="u1")),
    "index: category, ordered, missing": F(
        {"a": [1, 2]}, index=pd.CategoricalIndex(["x", None], ["x", "y"], ordered=True, name="c")
    ),
    "index: period with missing": F({"a": [1, 2]}, index=pd.PeriodIndex(["2024-01-01 01:00", None], freq="h")),
    "index: interval of times": F({"a": [1]}, index=pd.interval_range(pd.Timestamp("2024"), periods=1, closed="both")),
    "index: multi of one level": F({"a": [1]}, index=pd.MultiIndex.from_arrays([["x"]], names=["only"])),
    "index: multi of categories and nullable": F(
        {"a": [1, 2]}, index=pd.MultiIndex.from_arrays([pd.Categorical(["x", "y"]), pd.array([1, None], dtype="Int8")])
    ),
    "index and columns: multi": F(
        np.arange(16).reshape(4, 4), index=_multi(names=["p", "q"]), columns=_multi(names=["r", None])
    ),
    "columns: multi of dates, repeated": F(
        [[1, 2]], columns=pd.MultiIndex.from_arrays([pd.to_datetime(["2024", "2024"]), ["a", "a"]])
    ),
    "columns: periods": F([[1, 2]], columns=pd.period_range("2024", periods=2, freq="Q")),
    "columns: intervals": F([[1, 2]], columns=pd.interval_range(0, 2)),
    "columns: timedeltas": F([[1, 2]], columns=pd.timedelta_range("1D", periods=2)),
    "columns: timestamps in paris": F([[1, 2]], columns=pd.date_range("2024", periods=2, tz="Europe/Paris")),
    "columns: nullable": F([[1, 2]], columns=pd.Index(pd.array([1, None], dtype="Int64"))),
    "frame without rows, multi columns": F(columns=pd.MultiIndex.from_arrays([["a"], [1]])),
    "attrs": _attrs(),
    "no duplicate labels": F({"a": [1]}).set_flags(allows_duplicate_labels=False),
    "frame in a dict": {"train": F({"a": [1]}), "n": 1},
    "frames in a list": [F({"a": [1]}), F({"b": ["x"]})],
    "frame in a dataclass": r.Report("r", F({"a": [1]})),
    "two chunks of strings": pd.concat([F({"a": ["x"]}), F({"a": ["y"]})], ignore_index=True),
    "sliced frame": F({"a": np.arange(10), "b": list("abcdefghij")}).iloc[2:6],
    "strided columns": F(np.arange(12.0).reshape(3, 4))[[0, 2]],
}

SERIES: dict[str, Any] = {
    "series": S([1, 2], name="n"),
    "series without name": S([1.5, np.nan]),
    "series with tuple name": S(["a"], name=("x", 1)),
    "series with surrogate name": S([1], name="\ud800"),
    "series with int name": S([True], name=3),
    "series with timestamp name": S([1], name=pd.Timestamp("2024")),
    "series of objects": S([[1], None], dtype=object, name="o"),
    "series of strings": S(["a", None]),
    "series of categories with index": S(pd.Categorical(["x", "y"]), index=["r", "s"]),
    "empty series": S([], dtype="f4"),
    "series with multi index": S([1, 2, 3, 4], index=_multi()),
    "index of ints": pd.Index([1, 2], name="i"),
    "index of str": pd.Index(["a", "b"]),
    "index range": pd.RangeIndex(3),
    "index multi": _unsorted_multi(),
    "index dates": pd.date_range("2024", periods=3, freq="h"),
    "index business days": pd.date_range("2024", periods=3, freq="B"),
    "index categories": pd.CategoricalIndex(["a", "b", "a"], ordered=True),
    "index empty": pd.Index([], dtype="i8"),
    "index of objects in a dict": {"labels": pd.Index([1, "a", None])},
    "large index in a dict": {"labels": pd.Index(range(0, 4000, 2)).astype("int64")},
    "timestamp": pd.Timestamp("2024-01-01 00:00:00.123456789"),
    "timestamp s": pd.Timestamp(np.datetime64(0, "s")),
    "timestamp in paris": pd.Timestamp("2024-10-27 00:30", tz="UTC").tz_convert("Europe/Paris"),
    "timedelta": pd.Timedelta("1 day 1ns"),
    "period scalar": pd.Period("2024-01", "M"),
    "interval scalar": pd.Interval(0.5, 1.5, "both"),
    "NaT in a list": [pd.NaT, pd.NA],
}

ROWS = {**COLUMNS, **AXES, **SERIES}
