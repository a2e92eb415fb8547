"""What instances are made of."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow_zen.instance_parts import PickledParts, instance_attributes, pickled_parts


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
