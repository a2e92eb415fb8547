"""Hashes of rows, the same for equal values whatever their Arrow type and batch, and sets of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_zen.validation.table_scan import is_missing

Hashes = np.ndarray[Any, np.dtype[np.uint64]]

_MISSING = np.uint64(0x9E3779B97F4A7C15)
_FACTOR = np.uint64(0x100000001B3)


def hash_rows(columns: Sequence[pa.Array]) -> Hashes:
    """Return the hash of 64 bits of each row of some columns of one length; equal numbers below 2⁵³ are equal."""
    found = np.zeros(len(columns[0]) if columns else 0, np.uint64)
    for column in columns:
        found = _mix(found * _FACTOR + _hash_column(column))
    return found


def _hash_column(column: pa.Array) -> Hashes:
    missing = np.asarray(is_missing(column))
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        hashes = _hash_numbers(column, missing)
    elif pa.types.is_temporal(kind):
        hashes = _mix(np.asarray(_as_integers(column).fill_null(0)).view(np.uint64))
    else:
        hashes = _hash_texts(column)
    hashes[missing] = _MISSING
    return hashes


def _hash_numbers(column: pa.Array, missing: np.ndarray[Any, np.dtype[np.bool_]]) -> Hashes:
    """Hash integers as floats where that keeps them: a column with nulls is one of floats in pandas."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    values = np.asarray(pc.fill_null(column, 0))
    # A sum with 0 makes 0.0 of -0.0.
    floats = np.where(missing, 0, values).astype(np.float64) + 0.0
    hashes = _mix(floats.view(np.uint64))
    if values.dtype.kind in "iu":
        large = np.abs(floats) >= 2**53
        hashes[large] = _mix(values[large].astype(np.uint64))
    return hashes


def _as_integers(column: pa.Array) -> pa.Array:
    """Return times as integers: dates and timestamps in microseconds, unless they have nanoseconds."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("us", kind.tz), safe=False) if kind.unit != "ns" else column
    if pa.types.is_date(kind):
        column = column.cast(pa.timestamp("us"))
    width = column.type.bit_width
    return column.view(pa.int64() if width == 64 else pa.int32()).cast(pa.int64())


def _hash_texts(column: pa.Array) -> Hashes:
    """Hash each distinct text once; other values by their text."""
    from pandas.util import hash_array

    kind = column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if pa.types.is_nested(kind) or not is_text:
        column = pa.array([None if item is None else repr(item) for item in column.to_pylist()], pa.string())
    encoded = column.cast(pa.large_string()).dictionary_encode()
    texts = np.array(encoded.dictionary.to_pylist(), object)
    codes = np.asarray(encoded.indices.fill_null(0))
    if not len(texts):
        return np.zeros(len(column), np.uint64)
    hashes: Hashes = np.asarray(hash_array(texts, categorize=False), np.uint64)[codes]
    return hashes


def _mix(values: Hashes) -> Hashes:
    """Spread the bits of each value (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Hashes = values ^ (values >> np.uint64(31))
    return mixed


class HashSet:
    """A set of hashes in sorted arrays whose sizes double: of n hashes, each is moved log(n) times."""

    def __init__(self) -> None:
        self._runs: list[Hashes] = []

    def add(self, hashes: Hashes) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Add hashes; return which were in the set, or earlier among them."""
        distinct, first = np.unique(hashes, return_index=True)
        known = self.contains(distinct)
        repeated = np.ones(len(hashes), bool)
        repeated[first[~known]] = False
        run = distinct[~known]
        while self._runs and len(self._runs[-1]) <= len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        self._runs.append(run)
        return repeated

    def contains(self, hashes: Hashes) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return which hashes are in the set."""
        found = np.zeros(len(hashes), bool)
        for run in self._runs:
            if len(run):
                at = np.searchsorted(run, hashes).clip(max=len(run) - 1)
                found |= run[at] == hashes
        return found
