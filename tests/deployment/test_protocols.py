"""Requests for predictions and their answers, in each protocol."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from airflow_zen.deployment.protocols import (
    Rows,
    compare_predictions,
    decode_predictions,
    decode_rows,
    encode_invocation,
    encode_v1,
    encode_v2,
)
from airflow_zen.errors import InputError

FRAME = pd.DataFrame(
    {
        "delay": [1.5, math.nan],
        "hour": [7, 23],
        "late": [True, False],
        "carrier": ["UA", None],
        "at": pd.to_datetime(["2013-01-01", None]),
    }
)
ENCODINGS = [encode_invocation, encode_v1, encode_v2]


def test_a_frame_becomes_plain_json_values() -> None:
    """NaN, None and NaT are null, dates are text, and each column has its datatype."""
    rows = Rows.from_value(FRAME)
    assert rows.datatypes == ("FP64", "INT64", "BOOL", "BYTES", "BYTES")
    assert rows.data == [[1.5, 7, True, "UA", "2013-01-01T00:00:00"], [None, 23, False, None, None]]


@pytest.mark.parametrize("encode", ENCODINGS)
@pytest.mark.parametrize("value", [FRAME[["delay", "hour", "late"]], np.arange(6.0).reshape(2, 3)])
def test_each_request_is_read_back(encode, value) -> None:
    """What one protocol encodes is decoded with its names and values."""
    rows = Rows.from_value(value)
    found = decode_rows(encode(rows))
    assert (found.columns, [*found.data]) == (rows.columns, [*rows.data])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"predictions": [0.5, 1.0]}, [0.5, 1.0]),
        ({"predictions": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]}, [[1, 2], [3, 4]]),
        ({"outputs": [{"name": "o", "shape": [2, 2], "datatype": "FP64", "data": [1, 2, 3, 4]}]}, [[1, 2], [3, 4]]),
        (
            {"outputs": [{"name": "a", "shape": [2], "data": [1, 2]}, {"name": "b", "shape": [2], "data": [3, 4]}]},
            [[1, 3], [2, 4]],
        ),
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]]),
    ],
)
def test_predictions_of_each_answer_are_nested_lists(answer, expected) -> None:
    """An answer in any protocol gives one list of predictions."""
    assert decode_predictions(answer) == expected


def test_what_is_no_request_or_answer_is_named() -> None:
    """A body of another shape is an error that shows it."""
    with pytest.raises(InputError, match="got {'x': 1}"):
        decode_rows({"x": 1})
    with pytest.raises(InputError, match="got 'no'"):
        decode_predictions("no")


@pytest.mark.parametrize(
    ("expected", "answer", "difference"),
    [
        ([0.1, 0.2], {"predictions": [0.1, 0.2 + 1e-9]}, ""),
        ([1, 2], {"predictions": [[1.0], [2.0]]}, ""),
        ([True, "a"], {"predictions": [True, "a"]}, ""),
        ([0.1, 0.2], {"predictions": [0.1, 0.21]}, "row 1 is 0.21, and 0.2 in process."),
        ([0.1, 0.2], {"predictions": [0.1]}, "2 rows were sent, and 1 predictions came back."),
        ([[1, 2]], {"outputs": [{"shape": [1, 2], "data": [1, 3]}]}, "row 0 is [1, 3], and [1, 2] in process."),
        ([1], {"error": "boom"}, "its answer has no predictions: An answer has predictions or outputs, got {'error'"),
    ],
)
def test_the_first_difference_of_predictions_is_told(expected, answer, difference) -> None:
    """Predictions that differ by more than rounding are told in words, with their row."""
    found = compare_predictions(expected, answer)
    assert found.startswith(difference)
    assert bool(found) == bool(difference)
