"""What instances are made of, and what pickles name."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import pickle
import sys
import tracemalloc
from functools import cached_property
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from airflow_zen.instance_parts import PickledParts, instance_attributes, pickled_names, pickled_parts

_LOOKS_LIKE_A_PICKLE = b"\x80\x05\x95" + bytes(8) + b"\xff\xfe"


class Plain:
    __slots__ = ("__dict__", "_private", "shown")

    @cached_property
    def double(self) -> int:
        return 2


class Day(dt.date):
    note = ""


def outer(x: int) -> Any:
    def inner() -> Any:
        return math.sqrt(x), Path(), sys

    return inner


def test_attributes_are_those_of_slots_and_dict_without_cached_ones() -> None:
    """Slots and attributes count; what a cached property computed does not."""
    value = Plain()
    value.shown, value.other = 1, 2  # type: ignore[attr-defined]
    assert value.double == 2
    assert instance_attributes(value) == {"shown": 1, "other": 2}


def test_parts_have_what_a_subclass_added() -> None:
    """A date's pickle drops the attributes of a subclass; its parts have them."""
    day = Day(2026, 1, 1)
    day.note = "x"
    parts = pickled_parts(day)
    assert isinstance(parts, PickledParts)
    assert parts.state == {"note": "x"}


def test_parts_have_what_an_override_hides() -> None:
    """A class that tells pickle less than its base in C is still known by what the base holds, and by its attributes."""

    class Price(decimal.Decimal):
        def __reduce__(self) -> Any:
            return Price, ("1",)

    one, two = Price("2"), Price("3")
    assert pickled_parts(one) != pickled_parts(two)
    other = Price("2")
    other.note = "x"  # type: ignore[attr-defined]
    assert pickled_parts(one) == pickled_parts(Price("2")) != pickled_parts(other)


def test_parts_of_what_has_a_name() -> None:
    """What pickle stores by its name has the name as its parts."""
    assert pickled_parts(len) == "len"


@pytest.mark.parametrize("protocol", [4, 5])
def test_names_in_a_pickle(protocol: int) -> None:
    """Every class and function that a pickle names is found, with repeated names, in a longer text too."""
    text = b"before" + pickle.dumps([Plain, Path("a"), Path("b"), Plain(), outer, math.sqrt], protocol) + b"after"
    assert {(__name__, "Plain"), (__name__, "outer"), ("pathlib", "PosixPath"), ("math", "sqrt")} <= pickled_names(text)


def test_names_in_a_pickled_closure() -> None:
    """A function that is pickled by value names what it uses: classes, and modules as a whole."""
    names = pickled_names(cloudpickle.dumps(outer(2)))
    assert {("pathlib", "Path"), ("math", ""), ("sys", "")} <= names
    assert (__name__, "") not in names


def test_bytes_without_a_pickle_name_nothing() -> None:
    """Other bytes name nothing."""
    assert pickled_names(b"\x80\x05 no pickle") == set()


def test_names_after_a_pickle() -> None:
    """A text may hold several pickles, and other bytes between them that look like one."""
    text = pickle.dumps(Path("a"), 5) + _LOOKS_LIKE_A_PICKLE + pickle.dumps(math.sqrt, 4) + pickle.dumps(Plain, 5)
    assert pickled_names(text) == {("pathlib", "PosixPath"), ("math", "sqrt"), (__name__, "Plain")}


@pytest.mark.parametrize("wrap", [bytes, bytearray], ids=["bytes", "bytearray"])
@pytest.mark.parametrize("depth", [1, 3])
def test_names_in_a_pickle_inside_a_pickle(wrap: type, depth: int) -> None:
    """A pickle in the bytes of a pickle is read too, at any depth, and what follows it."""
    text = pickle.dumps(math.sqrt, 5)
    for _ in range(depth):
        text = pickle.dumps([wrap(text), Path("a")], 5)
    assert {("math", "sqrt"), ("pathlib", "PosixPath")} <= pickled_names(text)


def test_names_beside_bytes_that_look_like_a_pickle() -> None:
    """Bytes inside a pickle that look like another hide nothing that follows them."""
    text = pickle.dumps([_LOOKS_LIKE_A_PICKLE, b"\x80\x05\x95", Path("a")], 5)
    assert ("pathlib", "PosixPath") in pickled_names(text)


@pytest.mark.parametrize("damage", [lambda text: text[:-3], lambda text: text[:20] + b"\xff" * 9 + text[29:]])
def test_a_damaged_pickle_is_an_error(damage: Any) -> None:
    """A text that begins as a pickle and is none is not taken for one that names nothing."""
    with pytest.raises((ValueError, LookupError)):
        pickled_names(damage(pickle.dumps([Path("a"), Plain], 5)))


def test_a_large_pickle_is_read_without_copies() -> None:
    """Many matches in a large text cost one pass over it."""
    text = pickle.dumps([_LOOKS_LIKE_A_PICKLE * 200, b"x" * 5_000_000, Path("a")], 5)
    tracemalloc.start()
    try:
        assert ("pathlib", "PosixPath") in pickled_names(text)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(text)
    finally:
        tracemalloc.stop()
