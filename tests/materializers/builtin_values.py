"""Rows of the round-trip table: Python's built-ins, the standard library, users' records."""

from __future__ import annotations

import datetime as dt
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pendulum

from tests.materializers import records as r

PARIS = ZoneInfo("Europe/Paris")


def _deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(90):
        value = [value]
    return value


def _computed() -> r.Computed:
    value = r.Computed(2)
    assert value.triple == 6
    return value


def _open() -> r.Open:
    return r.Open(a=1, b={"c": (1, 2)})


def _private() -> r.Settings:
    value = r.Settings(depth=4)
    value._secret = 9
    return value


ROWS: dict[str, Any] = {
    "none": None,
    "true": True,
    "zero": 0,
    "negative int": -7,
    "int beyond 64 bits": 2**70,
    "int of 5000 digits": 10**5000,
    "float": 1.5,
    "integral float": 2.0,
    "tiny float": 5e-324,
    "negative zero": -0.0,
    "nan": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "str": "plain",
    "empty str": "",
    "unicode": "naïve 😀 \x00 \u2028",
    "lone surrogate": "a\ud83d",
    "two surrogates that look like a pair": "\ud83d\ude00",
    "the tag as str": "$",
    "complex": 1 - 2j,
    "complex of nan": complex(float("nan"), -0.0),
    "bytes": b"\x00\xff",
    "empty bytes": b"",
    "large bytes": bytes(range(256)) * 5_000,
    "large bytes within": {"model": bytes(range(256)) * 5_000, "small": b"a", "both": [b"b" * 1_500_000, b""]},
    "large bytes in a set": {b"c" * 1_500_000},
    "bytearray": bytearray(b"ab"),
    "decimal with zeros": Decimal("1.00"),
    "decimal snan": Decimal("-0E+3"),
    "decimal infinity": Decimal("-Infinity"),
    "fraction": Fraction(1, 3),
    "uuid": UUID("12345678123456781234567812345678"),
    "range": range(0, 10, 3),
    "huge range": range(2**70),
    "slice": slice(None, 5, None),
    "datetime": dt.datetime(2024, 2, 29, 12, 0, 0, 1),
    "datetime utc": dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    "datetime in paris": dt.datetime(2024, 7, 1, tzinfo=PARIS),
    "datetime in the repeated hour": dt.datetime(2024, 10, 27, 2, 30, tzinfo=PARIS, fold=1),
    "datetime at an offset": dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-3, minutes=-30))),
    "datetime year 1": dt.datetime.min,
    "date": dt.date(2024, 2, 29),
    "time": dt.time(1, 2, 3, 4),
    "time with zone": dt.time(1, tzinfo=PARIS),
    "timedelta": dt.timedelta(days=-1, microseconds=1),
    "timezone utc": dt.UTC,
    "timezone with a name": dt.timezone(dt.timedelta(seconds=1), "x"),
    "zoneinfo": PARIS,
    "pendulum datetime": pendulum.datetime(2024, 1, 1),
    "pendulum datetime in the repeated hour": pendulum.datetime(2024, 10, 27, 2, 30, tz="Europe/Paris", fold=1),
    "pendulum datetime at an offset": pendulum.parse("2024-01-01T00:00:00.000001+02:30"),
    "pendulum naive datetime": pendulum.naive(2024, 1, 1),
    "pendulum date": pendulum.date(2024, 1, 1),
    "pendulum zone": pendulum.timezone("Europe/Paris"),
    "datetime in a pendulum zone": dt.datetime(2024, 1, 1, tzinfo=pendulum.timezone("Europe/Paris")),
    "list": [1, "a", None, 2.5, True],
    "empty list": [],
    "long list of floats": [i / 7 for i in range(5000)],
    "list of nan": [1.0, float("nan")],
    "list of huge ints": [1, 2**64],
    "list of bools": [True, False],
    "nested lists": [[1], [[2]], []],
    "ninety levels": _deep(),
    "tuple": (1, 2),
    "empty tuple": (),
    "nested tuple": ((1, (2,)), [3]),
    "set of str": {"b", "a", "c"},
    "set of mixed": {1, "1", (1,), None, 2.5},
    "empty set": set(),
    "frozenset": frozenset({1, 2}),
    "set of frozensets": {frozenset({1}), frozenset({"x", "y"})},
    "set of enums": {r.Color.RED, r.Color.BLUE},
    "list of set": [{1, 2}],
    "set of tuples": {(1, 2), (3, 4)},
    "dict": {"b": 1, "a": [1, {"c": None}]},
    "empty dict": {},
    "dict with int keys": {1: "a", 2: "b"},
    "dict with 1 and '1'": {1: "a", "1": "b"},
    "dict with tuple keys": {(1, 2): 3},
    "dict with the tag as key": {"$": 1},
    "dict that looks tagged": {"$": "tuple", "items": [1]},
    "dict with None and bool keys": {None: 0, False: 1},
    "dict with nan key": {float("inf"): 1},
    "dict with surrogate key": {"\ud800": 1},
    "dict with date keys": {dt.date(2024, 1, 1): 1.0},
    "dict of tuple": {"shape": (3, 4)},
    "ordereddict": OrderedDict([("b", 1), ("a", 2)]),
    "defaultdict": defaultdict(list, {"a": [1]}),
    "defaultdict of a record": defaultdict(r.Params, {1: r.Params(1)}),
    "defaultdict without factory": defaultdict(None, {"a": 1}),
    "counter": Counter("abca"),
    "deque": deque([1, 2], maxlen=5),
    "enum": r.Color.RED,
    "str enum": r.Name.ADA,
    "strenum": r.Level.LOW,
    "int enum": r.Size.SMALL,
    "flag": r.Access.READ | r.Access.WRITE,
    "empty flag": r.Access(0),
    "int flag with an unnamed bit": r.Mode.A | r.Mode(8),
    "enum as key": {r.Color.RED: 1, r.Size.SMALL: 2},
    "namedtuple": r.Point(1, [2]),
    "typed namedtuple": r.Range(0.5),
    "list of namedtuples": [r.Point(1, 2), r.Point(3, 4)],
    "namedtuple in a set": {r.Point(1, 2)},
    "dataclass": r.Params(3, tags=("a",)),
    "frozen dataclass": r.Frozen([1], r.Params(1)),
    "dataclass with slots": r.Slotted(1, {2}),
    "frozen dataclass with slots": r.FrozenSlotted(1),
    "dataclass with init=False": _computed(),
    "dataclass of a dataclass": r.Child(1, extra=r.Slotted(None)),
    "generic dataclass": r.Box(r.Box(1)),
    "pydantic model of any type": r.Holder(item=(1, 2)),
    "pydantic dataclass": r.Validated(3),
    "pydantic model": r.Settings(depth=5, inner=r.Settings()),
    "pydantic model with private state": _private(),
    "pydantic model with extras": _open(),
    "pydantic root model": r.Numbers([1, 2]),
    "pydantic model that would not validate again": r.Strict.model_construct(at_most_ten=11),
}
