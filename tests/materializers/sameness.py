"""The strictest comparison of two values: what "comes back exactly" means."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections import defaultdict, deque
from datetime import datetime, time, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
from pendulum.tz.timezone import FixedTimezone
from sklearn.base import BaseEstimator

from tests.materializers.library_sameness import are_of_one_kind, library_comparison


def assert_same(left: Any, right: Any) -> None:
    """Assert that two values have the same types, order, dtypes and names; NaN equals NaN, and -0.0 is not 0.0."""
    assert type(left) is type(right) or are_of_one_kind(left, right), f"{type(left)} became {type(right)}"
    if left is right:
        return
    compare_library = library_comparison(left, assert_same)
    if compare_library is not None:
        compare_library(left, right)
        return
    for kind, compare in _COMPARISONS:
        if isinstance(left, kind):
            compare(left, right)
            return
    if dataclasses.is_dataclass(left):
        _attributes(left, right)
    elif type(left).__eq__ is not object.__eq__:
        assert left == right
    else:
        _state(left, right)


def are_same(left: Any, right: Any) -> bool:
    """Whether `assert_same` holds."""
    try:
        assert_same(left, right)
    except AssertionError:
        return False
    return True


def _floats(left: float, right: float) -> None:
    assert (math.isnan(left) and math.isnan(right)) or (
        left == right and math.copysign(1, left) == math.copysign(1, right)
    )


def _complexes(left: complex, right: complex) -> None:
    _floats(left.real, right.real)
    _floats(left.imag, right.imag)


def _sequences(left: Any, right: Any) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert_same(one, other)
    if isinstance(left, deque):
        assert left.maxlen == right.maxlen


def _mappings(left: Any, right: Any) -> None:
    _sequences(list(left.keys()), list(right.keys()))
    _sequences(list(left.values()), list(right.values()))
    if isinstance(left, defaultdict):
        assert left.default_factory is right.default_factory


def _sets(left: Any, right: Any) -> None:
    def order(value: Any) -> tuple[str, str]:
        return type(value).__qualname__, repr(value)

    _sequences(sorted(left, key=order), sorted(right, key=order))


def _clocks(left: Any, right: Any) -> None:
    assert left.isoformat() == right.isoformat()
    assert left.fold == right.fold
    _zones(left.tzinfo, right.tzinfo)


def _instants(left: Any, right: Any) -> None:
    assert (left, left.unit) == (right, right.unit)
    if isinstance(left, pd.Timestamp):
        _zones(left.tz, right.tz)


def _zones(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    if isinstance(left, ZoneInfo):
        assert left.key == right.key
    elif isinstance(left, FixedTimezone):
        assert (left.offset, left.name) == (right.offset, right.name)
    elif isinstance(left, timezone):
        assert (left, left.tzname(None)) == (right, right.tzname(None))
    else:
        assert str(left) == str(right)


def _attributes(left: Any, right: Any) -> None:
    names = {name for value in (left, right) for name in (*_slots(value), *getattr(value, "__dict__", ()))}
    for name in names - {"triple", "_stop_words_id"}:
        assert hasattr(left, name) == hasattr(right, name), name
        if hasattr(left, name):
            assert_same(getattr(left, name), getattr(right, name))


def _slots(value: Any) -> list[str]:
    return [name for base in type(value).__mro__ for name in getattr(base, "__slots__", ()) if name != "__weakref__"]


def _models(left: pydantic.BaseModel, right: pydantic.BaseModel) -> None:
    assert_same(left.__getstate__(), right.__getstate__())


def _state(left: Any, right: Any) -> None:
    """Compare objects of a library, such as the trees of a forest, by the state that pickle would save."""
    one, other = left.__getstate__(), right.__getstate__()
    assert_same(one, other) if one is not None else assert_same(left.__reduce__(), right.__reduce__())


def _paths(left: Path, right: Path) -> None:
    assert left.name == right.name
    assert _tree(left) == _tree(right)


def _tree(root: Path) -> dict[str, Any]:
    if root.is_file():
        return {"": (root.read_bytes(), root.stat().st_mode & 0o111 != 0)}
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*")}
    return {
        name: (path.read_bytes(), path.stat().st_mode & 0o111 != 0) if path.is_file() else None
        for name, path in found.items()
    }


def _scalars(left: np.generic, right: np.generic) -> None:
    assert left.dtype == right.dtype
    if left.dtype.kind == "V":
        assert left == right
    else:
        assert left.tobytes() == right.tobytes()


def _arrays(left: Any, right: Any) -> None:
    assert left.dtype == right.dtype
    assert left.dtype.byteorder == right.dtype.byteorder
    assert left.shape == right.shape
    assert left.flags.fnc == right.flags.fnc
    assert right.flags.writeable or not left.flags.writeable
    if left.dtype.kind in "OT":
        _sequences(left.ravel().tolist(), right.ravel().tolist())
    elif left.dtype.fields is not None:
        for name in left.dtype.names:
            _arrays(np.array(left[name]), np.array(right[name]))
    elif left.dtype.char in "gG":
        assert (left == right).all()
    else:
        assert left.tobytes() == right.tobytes()


def _masked(left: Any, right: Any) -> None:
    assert (left.mask is np.ma.nomask) == (right.mask is np.ma.nomask)
    _arrays(np.asarray(left.mask), np.asarray(right.mask))
    _arrays(np.asarray(left.data), np.asarray(right.data))
    assert np.asarray(left.fill_value).tobytes() == np.asarray(right.fill_value).tobytes()
    assert left.hardmask == right.hardmask


def _frames(left: pd.DataFrame, right: pd.DataFrame) -> None:
    assert_same(left.columns, right.columns)
    assert_same(left.index, right.index)
    assert_same(left.attrs, right.attrs)
    assert left.flags == right.flags
    for position in range(left.shape[1]):
        _values(left.iloc[:, position], right.iloc[:, position])


def _series(left: pd.Series, right: pd.Series) -> None:
    assert_same(left.name, right.name)
    assert_same(left.index, right.index)
    assert_same(left.attrs, right.attrs)
    assert left.flags == right.flags
    _values(left, right)


def _indexes(left: pd.Index, right: pd.Index) -> None:
    assert_same(list(left.names), list(right.names))
    if isinstance(left, pd.MultiIndex):
        _sequences(list(left.levels), list(right.levels))
        _sequences(
            [np.asarray(codes).tolist() for codes in left.codes], [np.asarray(codes).tolist() for codes in right.codes]
        )
        return
    assert getattr(left, "freq", None) == getattr(right, "freq", None)
    if isinstance(left, pd.RangeIndex):
        assert (left.start, left.stop, left.step) == (right.start, right.stop, right.step)
    _values(left, right)


def _values(left: Any, right: Any) -> None:
    _dtypes(left.dtype, right.dtype)
    if isinstance(left.dtype, pd.SparseDtype):
        assert_same(left.array.kind, right.array.kind)
        assert_same(left.array.sp_values, right.array.sp_values)
        assert left.array.sp_index.equals(right.array.sp_index)
    if isinstance(left.dtype, np.dtype) and left.dtype.kind in "biufc":
        np.testing.assert_array_equal(left.to_numpy(), right.to_numpy(), strict=True)
        assert (np.signbit(left.to_numpy().real) == np.signbit(right.to_numpy().real))[left.notna()].all()
    else:
        _sequences(list(left.array), list(right.array))


def _dtypes(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    assert left == right
    if isinstance(left, pd.StringDtype):
        assert left.storage == right.storage
        assert (left.na_value is pd.NA) == (right.na_value is pd.NA)
    if isinstance(left, pd.DatetimeTZDtype):
        _zones(left.tz, right.tz)
    if isinstance(left, pd.CategoricalDtype):
        assert left.ordered == right.ordered
        assert_same(left.categories, right.categories)
    if isinstance(left, pd.ArrowDtype):
        assert left.pyarrow_dtype.equals(right.pyarrow_dtype, check_metadata=True)
    if isinstance(left, pd.SparseDtype):
        assert_same(left.fill_value, right.fill_value)


def _tables(left: Any, right: Any) -> None:
    assert left.schema.equals(right.schema, check_metadata=True), (left.schema, right.schema)
    assert left.num_rows == right.num_rows
    for one, other in zip(left.columns, right.columns, strict=True):
        assert one.null_count == other.null_count
        assert_same(one.to_pylist(), other.to_pylist())


def _polars(left: Any, right: Any) -> None:
    if isinstance(left, pl.Series):
        assert left.name == right.name
        left, right = left.to_frame(), right.to_frame()
    assert left.schema == right.schema
    assert left.shape == right.shape
    assert_same(left.rows(), right.rows())


def _identical(left: Any, right: Any) -> None:
    # Early releases of Python 3.11 make a member anew for each look-up of unnamed bits.
    assert left is right or (isinstance(left, enum.Flag) and (type(left), left) == (type(right), right))


_COMPARISONS: list[tuple[Any, Any]] = [
    (enum.Enum, _identical),
    (np.generic, _scalars),
    (np.ma.MaskedArray, _masked),
    (np.ndarray, _arrays),
    (pd.DataFrame, _frames),
    (pd.Series, _series),
    (pd.Index, _indexes),
    ((pa.Table, pa.RecordBatch), _tables),
    ((pl.DataFrame, pl.Series), _polars),
    (BaseEstimator, _attributes),
    (pydantic.BaseModel, _models),
    (float, _floats),
    (complex, _complexes),
    ((list, tuple, deque), _sequences),
    (dict, _mappings),
    ((set, frozenset), _sets),
    ((pd.Timestamp, pd.Timedelta), _instants),
    ((datetime, time), _clocks),
    ((timezone, ZoneInfo, FixedTimezone), _zones),
    (Path, _paths),
]
