"""Plain values are told apart by type and structure, alike in every process."""

from __future__ import annotations

import argparse
import array
import collections
import configparser
import contextvars
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import io
import math
import pathlib
import random
import re
import string
import struct
import threading
import types
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import attr
import jinja2
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest
import scipy.sparse
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from airflow_zen.errors import FingerprintError
from airflow_zen.fingerprint import combine_fingerprints, fingerprint, frame


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Size(enum.IntEnum):
    ONE = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: Any = 1


@dataclasses.dataclass(slots=True)
class Slotted:
    x: Any = 1


@attr.define
class Attrs:
    x: Any = 1


class Model(pydantic.BaseModel):
    x: Any = 1
    _y: Any = pydantic.PrivateAttr(default=2)


class Text(str):
    __slots__ = ()


class Tagged(dict[str, int]):
    tag = "none"


def tagged(tag: str) -> Tagged:
    value = Tagged(a=1)
    value.tag = tag
    return value


def parsed(text: str) -> configparser.ConfigParser:
    value = configparser.ConfigParser()
    value.read_string(text)
    return value


def thread_local(x: int) -> threading.local:
    value = threading.local()
    value.x = x
    return value


SHARED = [1]
UTC = dt.UTC
SUMMER = dt.datetime(2026, 10, 25, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Rome"))
PADDED = np.dtype([("a", "i1"), ("b", "i8")], align=True)

# No two of these are the same value of the same type.
DISTINCT: list[Any] = [
    None, True, False, 0, 1, -1, 2**80, -(2**80), 0.0, -0.0, 1.0, math.nan, math.inf, 1j, complex(0, -0.0), complex(-0.0, 1),
    "", "1", "None", "a", "\ud800", b"", b"1", b"a", bytearray(b"1"), memoryview(b"1"), ..., NotImplemented,
    (), (1,), [], [1], ((),), [[]], [1, 2], [[1], 2], [1, [2]], (1, 2), set(), {1}, {1, 2}, frozenset(), frozenset({1}),
    {}, {"ab": "c"}, {"a": "bc"}, {"a": {"b": "c"}}, {1: "a"}, {"1": "a"}, {True: "a"}, {(1, 2): 3}, {"a": None},
    ["ab", "c"], ["a", "bc"], ["abc"], [("a", "b")], {"a", "b"},
    collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1), collections.defaultdict(list, a=1),
    collections.defaultdict(set, a=1), collections.Counter("ab"), {"a": 1, "b": 1}, collections.deque([1]),
    collections.deque([1], maxlen=2), types.SimpleNamespace, range(3), range(0, 3, 2), slice(3), slice(0, 3), [0, 1, 2],
    decimal.Decimal(1), decimal.Decimal("1.0"), decimal.Decimal("NaN"), fractions.Fraction(1, 2),
    dt.date(2026, 1, 1), dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 1, tzinfo=UTC),
    dt.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")), SUMMER, SUMMER.replace(fold=1), dt.time(1),
    dt.time(1, tzinfo=UTC), dt.timedelta(1), dt.timedelta(seconds=1), UTC,
    dt.timezone(dt.timedelta(0), "Z"), zoneinfo.ZoneInfo("UTC"), zoneinfo.ZoneInfo("Europe/Rome"),
    uuid.UUID(int=1), uuid.UUID(int=2), Colour.RED, Colour.BLUE, Size.ONE, Right.READ, Right.READ | Right.WRITE,
    pathlib.PurePosixPath("a"), pathlib.PurePosixPath("a/b"), pathlib.PureWindowsPath("a"),
    re.compile("a"), re.compile("a", re.IGNORECASE), re.compile(b"a"), array.array("i", [1]), array.array("l", [1]),
    Point(1, 2), Frozen(), Frozen(2), Frozen("1"), Slotted(), Slotted(2), Attrs(), Attrs(2), Model(), Model(x=2),
    Text("1"), Tagged(a=1), tagged("x"), tagged("y"),
    int, str, Frozen, Colour, list[int], list[str], int | str, Literal["a"], Literal["b"], Any, len, print, [1].append, [2].append,
    np.int64(1), np.int32(1), np.float64(1), np.float32(1), np.float64(math.nan), np.bool_(True), np.str_("1"), np.dtype("f8"),
    np.datetime64("2026-01-01"), np.datetime64("2026-01-01", "ns"), np.timedelta64(1, "s"),
    np.arange(4), np.arange(4).reshape(2, 2), np.arange(4).reshape(2, 2).T, np.arange(4, dtype="i4"), np.arange(4, dtype=">i8"),
    np.arange(4).view("f8"), np.array(1), np.array([1]), np.array([]), np.array([], dtype="i8"), np.zeros((0, 2)), np.zeros((2, 0)),
    np.array(["a", "b"]), np.array(["a", "b"], dtype=object), np.array([b"a"]), np.array([{"a": 1}], dtype=object),
    np.array([True, False]), np.array(["2026-01-01"], dtype="M8[D]"), np.array(["2026-01-01"], dtype="M8[s]"),
    np.array(["a"], dtype=np.dtypes.StringDType()), np.array([(1, 2)], dtype=[("a", "i8"), ("b", "i8")]),
    np.array([(1, 2)], dtype=[("a", "i8"), ("c", "i8")]), np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[1, 0]),
    np.array([[1]]), np.random.default_rng(1), np.random.default_rng(2), random.Random(1), random.Random(2),
    types.SimpleNamespace(a=1), types.SimpleNamespace(a=2),
    argparse.Namespace(a=1), argparse.Namespace(a=2), parsed("[a]\nx=1"), parsed("[a]\nx=2"), parsed("[b]\nx=1"),
    thread_local(1), thread_local(2), contextvars.ContextVar("a"), contextvars.ContextVar("a", default=1),
    contextvars.ContextVar("a", default=2), struct.Struct("<i"), struct.Struct("<q"), decimal.Context(prec=3), decimal.Context(prec=4),
    collections.ChainMap({"a": 1}), collections.ChainMap({}, {"a": 1}), collections.UserDict(a=1), string.Template("a"),
    string.Template("b"), compile("1", "a", "eval"), compile("2", "a", "eval"), np.sin, np.add, np.polynomial.Polynomial([1]),
    np.random.RandomState(1), np.random.RandomState(2), np.random.PCG64(1), np.random.MT19937(1), np.random.SeedSequence(1),
    np.random.SeedSequence(2), np.vectorize(len), np.vectorize(abs), functools.partialmethod(print, 1), functools.partialmethod(print, 2),
    pl.col("a") > 1, pl.col("a") > 2, pl.lit(pl.Series([1])), pl.when(pl.col("a") == 1).then(2).otherwise(3), pl.Datetime("us"),
    pl.Datetime("ms"), pl.Enum(["a"]), pl.Enum(["b"]), pl.List(pl.Int8), pl.List(pl.Int16), pl.Struct({"a": pl.Int8}),
    pl.Schema({"a": pl.Int8}), pl.Schema({"a": pl.Int16}), pl.Int8, pl.Int16, pa.int8(), pa.int16(), pa.timestamp("us"),
    pa.field("a", pa.int8()), pa.schema([("a", pa.int8())]), pa.schema([("a", pa.int8())], metadata={"x": "y"}), pa.scalar(1),
    pd.CategoricalDtype(["a"]), pd.CategoricalDtype(["b"]), pd.CategoricalDtype(["a"], ordered=True), pd.Int64Dtype(),
    pd.ArrowDtype(pa.int8()), pd.ArrowDtype(pa.int16()), pd.Timestamp("2026-01-01"), pd.Timestamp("2026-01-01") + pd.Timedelta(1, "ns"),
    pd.Timestamp("2026-01-01", tz="UTC"), pd.Timedelta(1, "ns"), pd.Timedelta(2, "ns"), pd.NaT, pd.NA, pd.Period("2026-01"),
    pd.Interval(1, 2), pd.Interval(1, 2, closed="both"), pd.offsets.MonthEnd(1), pd.offsets.MonthEnd(2), pd.DateOffset(months=1),
    pd.DateOffset(months=2), Ridge(1.0), Ridge(2.0), make_pipeline(StandardScaler(), Ridge(1.0)), make_pipeline(StandardScaler(), Ridge(2.0)),
    KFold(2), KFold(3), scipy.stats.norm(0, 1), scipy.stats.norm(0, 2), scipy.sparse.csr_array([[1]]), scipy.sparse.csr_array([[2]]),
]  # fmt: skip


def test_distinct_values_differ() -> None:
    """Values that differ in type, structure or content never share a fingerprint."""
    found: dict[str, Any] = {}
    for value in DISTINCT:
        print_ = fingerprint(value)
        assert print_ not in found, (value, found[print_])
        found[print_] = value


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (math.nan, -math.nan),
        (math.nan, struct.unpack(">d", bytes.fromhex("7ff8000000000001"))[0]),
        (np.float64(math.nan), np.float64("nan")),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a", "b", "c"}, {"c", "b", "a"}),
        (frozenset(range(100)), frozenset(reversed(range(100)))),
        (collections.Counter("ab"), collections.Counter("ba")),
        (np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3))),
        (np.arange(10)[::2], np.array([0, 2, 4, 6, 8])),
        (pathlib.PurePosixPath("a"), pathlib.Path("a")),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (memoryview(b"abcd")[::2], memoryview(b"ac")),
        ([[1], [1]], [SHARED, SHARED]),
    ],
)
def test_equal_values_agree(one: object, two: object) -> None:
    """Equal values agree, however they were built, ordered or laid out in memory."""
    assert fingerprint(one) == fingerprint(two)


def test_padding_is_not_content() -> None:
    """The padding between the fields of a record does not count."""
    one, two = np.zeros(1, PADDED), np.zeros(1, PADDED)
    one.view("u1")[1] = 255
    assert fingerprint(one) == fingerprint(two)


def test_cached_property_is_not_content() -> None:
    """Reading a cached property does not change the fingerprint of an instance."""
    from functools import cached_property

    @dataclasses.dataclass
    class Lazy:
        x: int

        @cached_property
        def double(self) -> int:
            return self.x * 2

    value = Lazy(1)
    before = fingerprint(value)
    assert value.double == 2
    assert fingerprint(value) == before


def test_undeclared_attribute_is_content() -> None:
    """Attributes of a dataclass instance beyond its fields count."""

    @dataclasses.dataclass
    class Open:
        x: int

    value = Open(1)
    before = fingerprint(value)
    value.y = 2  # type: ignore[attr-defined]
    assert fingerprint(value) != before


@pytest.mark.parametrize(
    ("digest", "value"),
    [
        ("87e00a03630b41a10370c5e3c62e4ed690226f5102198704629b1d17640f473d", None),
        ("830117280eda66c37c0ce7c6b2f12dc2d7ce6cf63d038885da59b18feba9bee3", 1),
        ("da739d3a9a2cd5e072baa34169ccb910aa60c7ec58fec95b6c7bb2bd00a10881", 1.0),
        ("cccaac18ba0d472768a089c33b46bbecf0ecfe5ef5d6d6da2cb16f98e6f1b659", "1"),
        ("7beed5f7e97660c486bbba8960a575346f0362bed14b10c03ed0722f542d537a", [1, (2, {"a": {3}})]),
        ("68113534c5304f37edd87208a15a7f10715e09c958e371f850d4d1cc94d7fd60", dt.datetime(2026, 1, 2, 3, 4, 5, 6, UTC)),
        ("d444ef773a0e97ccfc78cee75c5d3b084f2948e2bdb6c473ec226ee355b83bf8", Frozen(decimal.Decimal("1.5"))),
        ("dcf2c63f02a98c1b14cc95e3cbc9745748860506dab1fbbb20b8aa73fb925274", np.arange(6, dtype="<i8").reshape(2, 3)),
    ],
)
def test_pinned(digest: str, value: object) -> None:
    """Fingerprints are a format: a change of them needs a new KEY_VERSION."""
    assert fingerprint(value) == digest


def test_pinned_combination() -> None:
    """The combined key is pinned too."""
    assert (
        combine_fingerprints({"function train": "ab", "python": "3.11"})
        == "8cb904307558971aad0b8bf256dd02589d3172dab782d7633dc8f85db89e1ff8"
    )


def test_combination_frames_its_parts() -> None:
    """Labels and fingerprints are framed, and their order does not matter."""
    keys = [
        combine_fingerprints(each)
        for each in ({}, {"ab": "c"}, {"a": "bc"}, {"abc": ""}, {"a": "b", "c": ""}, {"a": "", "b": "c"})
    ]
    assert len(set(keys)) == len(keys)
    assert combine_fingerprints({"a": "1", "b": "2"}) == combine_fingerprints({"b": "2", "a": "1"})


def test_combination_depends_on_the_key_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key version has different keys."""
    before = combine_fingerprints({"a": "b"})
    monkeypatch.setattr("airflow_zen.fingerprint.KEY_VERSION", 0)
    assert combine_fingerprints({"a": "b"}) != before


@given(st.lists(st.binary(max_size=3), max_size=4), st.lists(st.binary(max_size=3), max_size=4))
def test_frame_is_unambiguous(one: list[bytes], two: list[bytes]) -> None:
    """Two lists of parts give the same bytes only when they are the same."""
    assert (frame("t", *one) == frame("t", *two)) == (one == two)


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append({"me": value})
    return value


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (object, "type object"),
        (lambda: np.frompyfunc(abs, 1, 1), "no module has it"),
        (lambda: pl.LazyFrame({"a": [1]}), "not known before"),
        (
            lambda: jinja2.Environment(loader=jinja2.DictLoader({"a": "{% include 'b' %}"})).get_template("a"),
            "other templates",
        ),
        (generator, "generator.*use it up"),
        (lambda: iter([1]), "list_iterator"),
        (lambda: map(str, [1]), "map"),
        (lambda: io.TextIOWrapper(io.BytesIO()), "TextIOWrapper"),
        (threading.Lock, "lock"),
        (random.SystemRandom, "does not have state"),
        (lambda: lambda: 1, "function"),
        (lambda: {"a": [generator()]}, "generator"),
        (deep, "nested too deeply"),
    ],
)
def test_refused(make: Callable[[], object], reason: str) -> None:
    """Values that cannot be fingerprinted soundly are refused, with their type and the remedy."""
    with pytest.raises(FingerprintError, match=reason) as refusal:
        fingerprint(make())
    assert "Make it inside the function, pass an artifact or a plain value, or set cache=False." in str(refusal.value)


def test_generator_is_not_consumed() -> None:
    """A refused generator is not consumed, and not passed to the fallback."""
    value = generator()
    with pytest.raises(FingerprintError):
        fingerprint(value, lambda each: str(list(each)))
    assert list(value) == [1]


def test_the_fallback_fingerprints_unknown_types() -> None:
    """The fallback decides, also inside containers, and two types with the same answer differ."""
    one, two = object(), threading.Event()
    assert fingerprint([one], lambda value: "a") != fingerprint([one], lambda value: "b")
    assert fingerprint(one, lambda value: "a") != fingerprint(two, lambda value: "a")
    with pytest.raises(FingerprintError, match="unknown"):
        fingerprint(one, lambda value: None)


def test_values_may_hold_themselves() -> None:
    """A value that holds itself is told by where it holds what."""
    assert fingerprint(cyclic()) == fingerprint(cyclic())
    other = cyclic()
    other[0]["me"] = other[0]
    assert fingerprint(cyclic()) != fingerprint(other)


def test_what_a_subclass_adds_is_content() -> None:
    """Attributes that a subclass adds to a class of a library count, also where pickle would drop them."""

    class Day(dt.date):
        note = ""

    one, two = Day(2026, 1, 1), Day(2026, 1, 1)
    two.note = "x"
    assert fingerprint(one) != fingerprint(two)


def test_on_class_gets_every_class() -> None:
    """`on_class` is called with the classes of a value, also those of elements and class values."""
    met: set[type] = set()
    fingerprint([{"a": Frozen(Colour.RED)}, Point(1, 2), Model], on_class=met.add)
    assert met == {Frozen, Colour, Point, Model}
