"""Rows of the round-trip table: NumPy scalars and arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

RECORD = np.dtype([("a", "i1"), ("b", "f8"), ("c", "U3")], align=True)


def _record() -> np.ndarray[Any, Any]:
    array = np.zeros(3, RECORD)
    array["b"] = [1.5, np.nan, -0.0]
    array["c"] = ["x", "", "abc"]
    return array


def _objects() -> np.ndarray[Any, Any]:
    array = np.empty((2, 2), dtype=object)
    array[0, 0], array[0, 1], array[1, 0], array[1, 1] = [1, 2], (3,), None, {"a": np.float32(1)}
    return array


def _masked_fill() -> Any:
    return np.ma.MaskedArray([1.0, 2.0], mask=[True, False], fill_value=-1.0, hard_mask=True)


ROWS: dict[str, Any] = {
    "float64 scalar": np.float64(1.5),
    "float32 scalar": np.float32(0.1),
    "float16 nan scalar": np.float16("nan"),
    "int64 scalar": np.int64(-3),
    "longlong scalar": np.longlong(-3),
    "uint8 scalar": np.uint8(255),
    "nan with a payload": np.frombuffer(b"\x01\x00\xc0\x7f", "f4")[0],
    "array of a nan with a payload in a dict": {"a": np.frombuffer(b"\x01\x00\xc0\x7f", "f4").copy()},
    "dtype": np.dtype("f4"),
    "dtypes in a dict": {name: np.dtype(name) for name in (">i2", "M8[ns]", "m8", "U3", "S2", "V4", "?", "O", "c16")},
    "bool scalar": np.True_,
    "complex64 scalar": np.complex64(1 - 2j),
    "datetime64 scalar": np.datetime64("2024-01-01", "D"),
    "datetime64 nat": np.datetime64("NaT"),
    "timedelta64 scalar": np.timedelta64(3, "ms"),
    "void scalars": [np.void(b"a\x00"), np.void(b"")],
    "str scalar": np.str_("é"),
    "bytes scalar": np.bytes_(b"ab"),
    "texts that end in zeros": [
        np.bytes_(b"a\x00"),
        np.str_("a\x00\x00"),
        np.bytes_(b"\x00"),
        np.str_(""),
        np.str_("\ud800"),
    ],
    "scalars in a dict": {"mse": np.float32(0.5), 1: [np.int8(3)]},
    "small array in a dict": {"confusion": np.array([[1, 2], [3, 4]]), "curve": np.array([0.1, np.nan], "f4")},
    "large array in a dict": {"x": np.arange(2000.0)},
    "array of strings in a list": [np.array(["a", "b"])],
    "float64 array": np.array([1.5, np.nan, -0.0, np.inf]),
    "float16 array": np.array([1, 2], "f2"),
    "longdouble array": np.array([1, 2], np.longdouble) / 3,
    "int8 array": np.array([-1, 2], "i1"),
    "uint64 array": np.array([2**64 - 1], "u8"),
    "bool array": np.array([True, False]),
    "complex128 array": np.array([1 + 2j, complex(np.nan, 0)]),
    "datetime64 array": np.array(["2024-01-01", "NaT"], "M8[us]"),
    "generic datetime64 array": np.array(["NaT"], "M8"),
    "timedelta64 array": np.array([1, 2], "m8[h]"),
    "str array": np.array(["a", "bcd", ""]),
    "2-d str array": np.array([["a"], ["b"]]),
    "bytes array": np.array([b"a", b"bc"]),
    "void array": np.array([b"ab"], "V2"),
    "big-endian array": np.array([1, 2], ">i4"),
    "0-d array": np.array(3.5),
    "empty array": np.empty((0, 3)),
    "fortran array": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "3-d array": np.arange(24.0).reshape(2, 3, 4),
    "structured array": _record(),
    "nested structured array": np.zeros(2, [("p", [("x", "f4"), ("y", "i8", (2,))])]),
    "object array": _objects(),
    "object array of lists of one length": np.array([[1, 2], [3, 4], None], dtype=object)[:2],
    "0-d object array": np.array(None, dtype=object),
    "empty object array": np.array([], dtype=object),
    "stringdtype array": np.array(["a", "bé"], np.dtypes.StringDType()),
    "stringdtype with None": np.array(["a", None], np.dtypes.StringDType(na_object=None)),
    "stringdtype with nan": np.array(["a", np.nan], np.dtypes.StringDType(na_object=np.nan, coerce=False)),
    "masked array": np.ma.array([1, 2, 3], mask=[0, 1, 0]),
    "masked array without mask": np.ma.array([1, 2]),
    "masked array with fill value": _masked_fill(),
    "masked datetime array": np.ma.array(np.array([1, 2], "M8[s]"), mask=[True, False]),
    "masked structured array": np.ma.array(_record(), mask=[(1, 0, 0), (0, 1, 0), (0, 0, 1)]),
    "masked structured array with fill value": np.ma.array(
        np.zeros(2, [("a", "i4"), ("t", "M8[ns]")]), fill_value=(7, np.datetime64(5, "ns"))
    ),
    "masked fortran array": np.ma.array(np.asfortranarray(np.arange(6).reshape(2, 3)), mask=False),
    "masked 0-d array": np.ma.array(3, mask=True),
    "structured array with titles": np.zeros(2, np.dtype([(("title", "a"), "i4")])),
    "big-endian structured array": np.zeros(2, [("a", ">i4")]),
    "array of complex longdouble": np.array([1 + 2j], np.clongdouble),
    "strided array": np.arange(24).reshape(4, 6)[::2, ::-1],
    "matrix": np.matrix([[1, 2], [3, 4]]),
    "recarray": np.rec.array([(1, "a"), (2, "b")], dtype=[("n", "i4"), ("s", "U1")]),
}
