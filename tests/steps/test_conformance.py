"""Promises of `airflow_zen.steps.conformance`."""

import typing
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Literal,
    NewType,
    NotRequired,
    Protocol,
    TypedDict,
    TypeVar,
    runtime_checkable,
)

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from pandera.typing import DataFrame, Series

from airflow_zen.errors import OutputError
from airflow_zen.steps.conformance import ValuePath, coerce


class Shaped(Protocol):
    shape: tuple


@runtime_checkable
class Fitted(Protocol):
    def predict(self, x): ...


class Square(Shaped):
    shape = (1, 1)


class Sizes(TypedDict):
    rows: int
    share: NotRequired[float]


Rows = NewType("Rows", int)
Frame = TypeVar("Frame", bound=pd.DataFrame)
Text = TypeVar("Text", str, bytes)


@pytest.mark.parametrize(
    ("value", "declared", "expected"),
    [
        (1, int, 1),
        (1, float, 1.0),
        (1, complex, 1 + 0j),
        (np.float64(0.5), float, 0.5),
        (np.float32(0.5), float, 0.5),
        (np.int64(3), int, 3),
        (np.int64(3), float, 3.0),
        (np.bool_(True), bool, True),
        (True, bool, True),
        ([1], list[int], [1]),
        ({"a": 1}, dict[str, int], {"a": 1}),
        (None, int | None, None),
        ("a", int | str, "a"),
        (object, Any, object),
        (3, None, 3),
        (3, TypeVar("T"), 3),
        ("a", Literal["a"], "a"),
        (None, Literal["a"] | None, None),
        (np.str_("a"), str, "a"),
        (np.bytes_(b"a"), bytes, b"a"),
        (np.float64(0.5), float | None, 0.5),
        (np.float64("inf"), float, float("inf")),
        (np.array(3), int, 3),
        (np.datetime64("2024"), np.datetime64, np.datetime64("2024")),
        ([np.float64(0.5), 1], list[float], [0.5, 1.0]),
        ({"auc": np.float32(0.5)}, dict[str, float], {"auc": 0.5}),
        ({np.str_("k"): [np.int64(1)]}, dict[str, list[int]], {"k": [1]}),
        ((np.int8(1), "a"), tuple[int, str], (1, "a")),
        ((1, 2), tuple[float, ...], (1.0, 2.0)),
        ({np.int64(3)}, set[int], {3}),
        ([1, None], list[int | None], [1, None]),
        ([], list[int], []),
        ({"a": object}, dict[str, Any], {"a": object}),
        ([1, 2], Sequence[float], [1.0, 2.0]),
        ((1, 2), Sequence[float], (1.0, 2.0)),
        (deque([1], 3), deque[float], deque([1.0], 3)),
        ({"a": 1}, Mapping[str, float], {"a": 1.0}),
        (OrderedDict(a=np.int64(1)), OrderedDict[str, int], OrderedDict(a=1)),
        (defaultdict(list, {"a": [np.int64(1)]}), defaultdict[str, list[int]], defaultdict(list, {"a": [1]})),
        (Counter({np.str_("a"): 2}), Counter[str], Counter(a=2)),
        (np.int32(5), float | int, 5),
        (np.float32(0.5), complex | int | float, 0.5),
        (["a"], list[int] | list[str], ["a"]),
        ({"a": "x"}, dict[str, int] | dict[str, str], {"a": "x"}),
        ([1], list[Annotated[float, "unit"]], [1.0]),
        ((1, "a"), tuple[Annotated[int, "n"], Annotated[str, "s"]], (1, "a")),
        ((1, "a", "b"), tuple[float, *tuple[str, ...]], (1.0, "a", "b")),
        ((), tuple[()], ()),
        ((1, 2), tuple, (1, 2)),
        (Counter("a"), typing.Counter, Counter("a")),
        ({"rows": np.int64(1), "share": 1}, Sizes, {"rows": 1, "share": 1.0}),
        ({"rows": 1}, Sizes, {"rows": 1}),
        ([{"rows": 1}], list[Sizes], [{"rows": 1}]),
        (np.int64(1), Rows, 1),
        ([1.5, "a"], list[float | str], [1.5, "a"]),
        (b"a", Text, b"a"),
    ],
)
def test_fits(value, declared, expected):
    """A value that fits is returned as declared, and converted only where nothing is lost."""
    fitted = coerce(value, declared, ValuePath("output"))
    assert fitted == expected
    assert type(fitted) is type(expected)
    assert repr(fitted) == repr(expected)


@pytest.mark.parametrize(
    ("value", "declared"),
    [
        ("1", int),
        (1.5, int),
        (True, float),
        (np.bool_(True), float),
        (None, int),
        ([1], dict),
        (2**53 + 1, float),
        (1, str | bytes),
        ("b", Literal["a"]),
        (True, Literal[1]),
        (["a"], list[int]),
        ([None], list[str]),
        ({"a": "b"}, dict[str, float]),
        ({1: 0.5}, dict[str, float]),
        ((1, 2), tuple[int, str]),
        ([[1], ["a"]], list[list[int]]),
        ((1,), tuple[int, str]),
        ((1, "a", 2), tuple[int, str]),
        ((1,), tuple[()]),
        ((1, "a", 2), tuple[int, *tuple[str, ...]]),
        (["a"], Sequence[int]),
        (("a",), Sequence[int]),
        ({"a"}, Collection[int]),
        (deque(["a"]), deque[int]),
        ({"a": 1}, Mapping[str, pd.DataFrame]),
        (defaultdict(list, {"a": 1}), defaultdict[str, list]),
        (OrderedDict(a=1), OrderedDict[str, str]),
        (Counter([1]), Counter[str]),
        ([1j], list[int] | list[str]),
        (["a"], list[Annotated[int, "unit"]]),
        (np.zeros(2, int), NDArray[np.float64]),
        (np.zeros(2), NDArray[np.integer]),
        ([np.zeros(2)], list[NDArray[np.float32]]),
        ({}, Sizes),
        ({"rows": "a"}, Sizes),
        ({"rows": 1, "more": 1}, Sizes),
        ([1], Sizes),
        ([{"rows": 1}, {"rows": None}], list[Sizes]),
        ("a", Rows),
        ([[1]], list[Frame]),
        (1, Text),
        ([1], list[Fitted]),
        ({"a": [(1, "x")]}, dict[str, list[tuple[int, pd.DataFrame]]]),
    ],
)
def test_does_not_fit(value, declared):
    """A value that would have to change is refused, and the error names the output."""
    with pytest.raises(OutputError, match="'score"):
        coerce(value, declared, ValuePath("score"))


def test_protocols_are_checked_by_the_names_of_their_members():
    """A value without a member of a protocol does not fit it, whether isinstance could tell or not."""
    assert coerce(np.zeros(1), Shaped, ValuePath("output")).shape == (1,)
    with pytest.raises(OutputError, match=r"output 'score' is declared Shaped.*returned builtins\.int"):
        coerce(1, Shaped, ValuePath("score"))
    with pytest.raises(OutputError, match="is declared Fitted"):
        coerce(np.zeros(1), Fitted, ValuePath("score"))
    with pytest.raises(OutputError, match="is declared SupportsFloat"):
        coerce("1", typing.SupportsFloat, ValuePath("score"))


def test_a_class_that_implements_a_protocol_is_checked_as_any_class():
    """Only a protocol itself is checked by names; a subclass of it is checked as a class."""
    with pytest.raises(OutputError, match="is declared Square"):
        coerce(np.zeros(1), Square, ValuePath("score"))
    assert isinstance(coerce(Square(), Shaped, ValuePath("output")), Square)


def test_element_that_does_not_fit_is_named():
    """The error names the element of a container, its declared type and its type."""
    with pytest.raises(OutputError, match=r"output 'folds\[1\]\['auc'\]' is declared float.*returned builtins\.str"):
        coerce([{"auc": 0.5}, {"auc": "high"}], list[dict[str, float]], ValuePath("folds"))


def test_fitting_containers_are_not_copied():
    """A container whose elements all fit is the very object that was returned."""
    value = [[1, 2], [3]]
    assert coerce(value, list[list[int]], ValuePath("output")) is value
    table = {"a": [0.5]}
    assert coerce(table, dict[str, list[float]], ValuePath("output")) is table


@pytest.mark.parametrize(
    "dtype", [np.float64, np.floating, np.generic, float, int, Any, TypeVar("Number", bound=np.generic)]
)
def test_array_of_its_dtype_fits(dtype):
    """An array fits its dtype and the abstract dtypes above it; a dtype that is no class of NumPy's is not checked."""
    array = np.zeros(2)
    assert coerce(array, NDArray[dtype], ValuePath("output")) is array
    assert coerce(None, NDArray[dtype] | None, ValuePath("output")) is None


def test_array_of_another_dtype_is_named():
    """The error names the output, the declared dtype and the actual one."""
    with pytest.raises(
        OutputError, match=r"'output\[0\]' is declared an array of numpy.float64, .* returned one of int8"
    ):
        coerce([np.zeros(1, "int8")], list[NDArray[np.float64]], ValuePath("output"))


def test_annotations_of_pandera_are_those_of_its_library():
    """`DataFrame[Schema]` is written for frames that are pandas' own."""
    frame = pd.DataFrame({"a": [0.5]})
    assert coerce(frame, DataFrame[typing.Any], ValuePath("output")) is frame
    with pytest.raises(OutputError, match="'score' is declared .*, but the function returned pandas.DataFrame"):
        coerce(frame, Series[float], ValuePath("score"))


def test_a_class_of_a_file_that_was_imported_twice_is_the_same():
    """Airflow imports a DAG file more than once, and its classes are then two by one name."""
    again = type("Square", (), {"__module__": Square.__module__, "__qualname__": Square.__qualname__})
    value = Square()
    assert coerce(value, again, ValuePath("output")) is value
    with pytest.raises(OutputError):
        coerce(value, type("Square", (), {"__module__": "another"}), ValuePath("output"))
