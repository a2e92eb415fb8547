"""Two executions of one step, and whether the second may reuse the first: the arguments, inputs and damage that people meet."""

import datetime as dt
import json
import math
import uuid
from collections import OrderedDict
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

HIT, MISS = "hit", "miss"

FRAME = {"a": [1, 2], "b": [0.1, math.nan]}
ZONE = dt.timezone(dt.timedelta(hours=2))


class Point(NamedTuple):
    x: int
    y: int


class Colour(Enum):
    RED = 1
    CRIMSON = 2


def work(x=None, **options) -> str:
    return "done"


# Name, first argument, second argument, what becomes of the second execution.
ARGUMENTS = [
    ("int and text", 1, "1", MISS),
    ("int and bool", 1, True, MISS),
    ("int and float", 1, 1.0, MISS),
    ("zero and False", 0, False, MISS),
    ("zero and minus zero", 0.0, -0.0, MISS),
    ("None and nothing given", None, None, HIT),
    ("None and text", None, "None", MISS),
    ("text and bytes", "a", b"a", MISS),
    ("bytes and bytearray", b"a", bytearray(b"a"), MISS),
    ("composed and decomposed", "é", "e\u0301", MISS),
    ("empty text and None", "", None, MISS),
    ("NaN", math.nan, float("nan"), HIT),
    ("infinity", math.inf, -math.inf, MISS),
    ("neighbouring floats", 0.1, math.nextafter(0.1, 1), MISS),
    ("big integers", 10**30, 10**30 + 1, MISS),
    ("complex and float", 1 + 0j, 1.0, MISS),
    ("list and tuple", [1, 2], (1, 2), MISS),
    ("order of a list", [1, 2], [2, 1], MISS),
    ("nesting", [[1], 2], [[1, 2]], MISS),
    ("an empty list inside", [[]], [], MISS),
    ("list of None", [None], [], MISS),
    ("order of a dict", {"a": 1, "b": 2}, {"b": 2, "a": 1}, HIT),
    ("key of a dict", {"1": 0}, {1: 0}, MISS),
    ("value in a dict", {"a": {"b": 1}}, {"a": {"b": 1.0}}, MISS),
    ("dict and OrderedDict", {"a": 1}, OrderedDict(a=1), MISS),
    ("order of a set", {"x", "y", "z"}, {"z", "y", "x"}, HIT),
    ("set and frozenset", {1}, frozenset({1}), MISS),
    ("set of other types", {1, "1"}, {1}, MISS),
    ("named tuple and tuple", Point(1, 2), (1, 2), MISS),
    ("equal named tuples", Point(1, 2), Point(1, 2), HIT),
    ("members of an enum", Colour.RED, Colour.CRIMSON, MISS),
    ("enum and its value", Colour.RED, 1, MISS),
    (
        "equal instants in two zones",
        dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC),
        dt.datetime(2026, 1, 1, 14, tzinfo=ZONE),
        MISS,
    ),
    ("date and midnight", dt.date(2026, 1, 1), dt.datetime(2026, 1, 1), MISS),
    ("equal dates", dt.date(2026, 1, 1), dt.date(2026, 1, 1), HIT),
    ("durations", dt.timedelta(days=1), dt.timedelta(hours=24), HIT),
    ("decimal places", Decimal("1.0"), Decimal("1.00"), MISS),
    ("fraction and float", Fraction(1, 2), 0.5, MISS),
    ("uuid and its text", uuid.UUID(int=1), str(uuid.UUID(int=1)), MISS),
    ("path and its text", PurePosixPath("a/b"), "a/b", MISS),
    ("ranges", range(0, 4, 2), range(0, 3, 2), MISS),
    ("numpy scalar and int", np.int64(1), 1, MISS),
    ("width of a numpy scalar", np.int32(1), np.int64(1), MISS),
    ("equal arrays", np.arange(6), np.arange(6), HIT),
    ("nearly equal arrays", np.array([0.1]), np.array([math.nextafter(0.1, 1)]), MISS),
    ("shape of an array", np.arange(6), np.arange(6).reshape(2, 3), MISS),
    ("dtype of an array", np.arange(6), np.arange(6).astype("float64"), MISS),
    ("equal frames", pd.DataFrame(FRAME), pd.DataFrame(FRAME), HIT),
    ("nearly equal frames", pd.DataFrame(FRAME), pd.DataFrame({**FRAME, "b": [0.1000001, math.nan]}), MISS),
    ("dtype of a column", pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1.0]}), MISS),
    ("order of columns", pd.DataFrame({"a": [1], "b": [2]}), pd.DataFrame({"b": [2], "a": [1]}), MISS),
    ("index of a frame", pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1]}, index=[5]), MISS),
    ("frame inside a dict", {"f": pd.DataFrame(FRAME)}, {"f": pd.DataFrame(FRAME)}, HIT),
    ("pandas and polars", pd.DataFrame({"a": [1]}), pl.DataFrame({"a": [1]}), MISS),
    ("equal arrow tables", pa.table({"a": [1]}), pa.table({"a": [1]}), HIT),
    ("equal estimators", LogisticRegression(C=2.0), LogisticRegression(C=2.0), HIT),
    ("parameter of an estimator", LogisticRegression(C=2.0), LogisticRegression(C=2.5), MISS),
    ("fitted and unfitted", StandardScaler(), StandardScaler().fit([[1.0], [2.0]]), MISS),
    ("two classes", StandardScaler(), LogisticRegression(), MISS),
    ("a function", len, max, MISS),
]


@pytest.mark.parametrize(
    ("first", "second", "answer"), [row[1:] for row in ARGUMENTS], ids=[row[0] for row in ARGUMENTS]
)
def test_an_argument(run, first, second, answer):
    """Equal arguments are reused, and different ones, however close, are not."""
    assert run(work, first).cache == MISS
    assert run(work, second).cache == answer


@pytest.mark.parametrize(
    ("first", "second", "answer"),
    [
        (pd.DataFrame(FRAME), pd.DataFrame(FRAME), HIT),
        (pd.DataFrame(FRAME), pd.DataFrame({**FRAME, "a": [1, 3]}), MISS),
        (pd.DataFrame({"a": ["x"]}), pd.DataFrame({"a": ["x"]}).astype("category"), MISS),
        ({"a": [1, 2]}, {"a": [1, 2]}, HIT),
        ({"a": [1, 2]}, {"a": (1, 2)}, MISS),
        (LogisticRegression().fit([[0], [1]], [0, 1]), LogisticRegression().fit([[0], [1]], [0, 1]), HIT),
        (LogisticRegression().fit([[0], [1]], [0, 1]), LogisticRegression().fit([[0], [2]], [0, 1]), MISS),
    ],
)
def test_an_artifact(run, stack, first, second, answer):
    """Inputs with the same bytes are reused, even when they were saved separately."""
    wires = [stack.save(value).ref.to_wire() for value in (first, second)]
    assert run(work, wires[0]).cache == MISS
    assert run(work, wires[1]).cache == answer


@pytest.mark.parametrize(
    ("first", "second", "answer"),
    [
        ({"x": 1, "depth": 2}, {"depth": 2, "x": 1}, HIT),
        ({"x": 1}, {"x": 1, "depth": None}, MISS),
        ({}, {"x": None}, HIT),
        ({"depth": 1}, {"width": 1}, MISS),
    ],
)
def test_how_arguments_are_passed(run, first, second, answer):
    """The order of arguments and explicit defaults do not matter, names do."""
    assert run(work, **first).cache == MISS
    assert run(work, **second).cache == answer


def _artifact(entry):
    (wire,) = json.loads(entry)["outputs"].values()
    return f"artifacts/{wire['digest'][:2]}/{wire['digest']}/manifest.json"


# What is left of a cache entry; None where it is gone.
HARM = {
    "gone": lambda entry: None,
    "empty": lambda entry: b"",
    "cut": lambda entry: entry[:100],
    "of another key": lambda entry: entry.replace(json.loads(entry)["key"].encode(), b"0" * 64),
    "of a later format": lambda entry: entry.replace(b'"airflow_zen": 1', b'"airflow_zen": 2'),
    "pointing elsewhere": lambda entry: entry.replace(b'"digest": "', b'"digest": "../'),
    "of an encoding that nothing reads": lambda entry: entry.replace(b"python.json@1", b"other.json@7"),
    "a pickle, which is not allowed": lambda entry: entry.replace(b"python.json@1", b"cloudpickle@1"),
    "whole, its artifact gone": lambda entry: entry,
    "with a time that is a text": lambda entry: _changed(entry, created="today"),
    "with seconds that are a list": lambda entry: _changed(entry, seconds=[]),
    "with an origin that is a number": lambda entry: _changed(entry, origin=7),
    "with ingredients that are a list": lambda entry: _changed(entry, ingredients=[1]),
    "with a page that is an object": lambda entry: _changed(entry, page={}),
    "with outputs that are a list": lambda entry: _changed(entry, outputs=[]),
    "with an output of another name": lambda entry: entry.replace(b'"output": {', b'"other": {'),
    "with a size without end": lambda entry: entry.replace(b'"size": ', b'"size": 1e999, "s": '),
    "a number": lambda entry: b"7",
    "a list": lambda entry: b"[]",
    "nested without end": lambda entry: b"[" * 100_000,
}


def _changed(entry, **fields):
    return json.dumps({**json.loads(entry), **fields}).encode()


@pytest.mark.parametrize("harm", HARM)
def test_damage(run, stack, harm):
    """With a damaged entry the step is computed, the entry is replaced, and it is reused again."""
    key = run(work, 1).cache_key
    transport, address = stack.cache.transport, f"cache/{key[:2]}/{key}.json"
    entry = transport.read(address)
    left = HARM[harm](entry)
    transport.delete([address if left is None else "none", _artifact(entry) if left == entry else "none"])
    if left is not None:
        transport.write(address, left)
    assert [run(work, 1).cache, run(work, 1).cache] == [MISS, HIT]
