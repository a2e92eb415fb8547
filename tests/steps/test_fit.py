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
    ],
)
def test_fits(value, declared, expected):
    """What fits is given as declared, widened only where nothing is lost."""
    fitted = fit(value, declared, "output")
    assert fitted == expected
    assert type(fitted) is type(expected)


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
    ],
)
def test_does_not_fit(value, declared):
    """What would change its value or kind is refused, naming the output."""
    with pytest.raises(OutputError, match="'score'"):
        fit(value, declared, "score")


def test_protocols_are_not_checked():
    """A type that isinstance cannot check is trusted."""
    assert fit(1, Shaped, "output") == 1
