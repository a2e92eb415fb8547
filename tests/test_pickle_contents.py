"""What pickles name, and what they are made of."""

from __future__ import annotations

import math
import pickle
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from airflow_zen.fingerprint import fingerprint
from airflow_zen.pickle_contents import pickled_names, pickled_structure

_LOOKS_LIKE_A_PICKLE = b"\x80\x05\x95" + bytes(8) + b"\xff\xfe"


class Plain:
    pass


def outer(x: int) -> Any:
    def inner() -> Any:
        return math.sqrt(x), Path(), sys

    return inner


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


def key_of(function: Any) -> str:
    return fingerprint(pickled_structure(b"before" + cloudpickle.dumps(function) + b"after"))


def test_the_structure_of_a_function_has_no_lines() -> None:
    """Functions that do the same have the same structure, wherever they are; closures, defaults and code count."""
    one = lambda x, n=1: x + n  # noqa: E731
    same = [
        lambda x, n=1: x + n,
    ]
    others = [lambda x, n=2: x + n, lambda x, n=1: x - n, outer(2), outer(3)]
    assert key_of(one) == key_of(same[0])
    assert len({key_of(one), *map(key_of, others)}) == 5


def test_other_bytes_are_kept() -> None:
    """Bytes outside of pickles, and those that only look like one, count as they are."""
    text = pickle.dumps([1])
    assert pickled_structure(b"a" + text + b"b") == [b"a", [1], b"b"]
    assert pickled_structure(_LOOKS_LIKE_A_PICKLE) == [_LOOKS_LIKE_A_PICKLE]


class Loaded:
    count = 0

    def __setstate__(self, state: Any) -> None:
        type(self).count += 1

    def __getstate__(self) -> Any:
        return [1]


def test_nothing_is_loaded() -> None:
    """The structure of a pickle is read without a call of what it names."""
    structure = pickled_structure(pickle.dumps([Loaded(), Path("a"), {"b": Plain()}]))
    assert Loaded.count == 0
    assert fingerprint(structure) == fingerprint(pickled_structure(pickle.dumps([Loaded(), Path("a"), {"b": Plain()}])))
    assert fingerprint(structure) != fingerprint(pickled_structure(pickle.dumps([Loaded(), Path("b"), {"b": Plain()}])))
