"""Promises of `airflow_zen.steps.fit`."""

from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import pytest

from airflow_zen.errors import OutputError
from airflow_zen.steps.fit import fit


class Shaped(Protocol):
    shape: tuple


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
    ],
)
def test_fits(value, declared, expected):
    """What fits is given as declared, widened only where nothing is lost."""
    fitted = fit(value, declared, "output")
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
    ],
)
def test_does_not_fit(value, declared):
    """What would change its value or kind is refused, naming the output."""
    with pytest.raises(OutputError, match="'score"):
        fit(value, declared, "score")


def test_protocols_are_not_checked():
    """A type that isinstance cannot check is trusted."""
    assert fit(1, Shaped, "output") == 1


def test_element_that_does_not_fit_is_named():
    """Of a container the error names the element, and what it should be and is."""
    with pytest.raises(OutputError, match=r"output 'folds\[1\]\['auc'\]' is declared float.*returned builtins\.str"):
        fit([{"auc": 0.5}, {"auc": "high"}], list[dict[str, float]], "folds")


def test_fitting_containers_are_not_copied():
    """A container whose elements all fit is the very object that was returned."""
    value = [[1, 2], [3]]
    assert fit(value, list[list[int]], "output") is value
    table = {"a": [0.5]}
    assert fit(table, dict[str, list[float]], "output") is table
