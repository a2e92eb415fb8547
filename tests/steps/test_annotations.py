"""Promises of types that are written as text, whole or in part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import pytest

from airflow_zen import Each, Output
from airflow_zen.errors import OutputError
from airflow_zen.steps.conformance import unpack_result
from airflow_zen.steps.outputs import declared_outputs, output_types

if TYPE_CHECKING:
    from decimal import Decimal


class Model:
    pass


def whole() -> dict[str, Model]: ...
def inside() -> dict[str, "Model"]: ...  # noqa: UP037 - that is what is tried
def several() -> Output(first=list["Model"], second=tuple["Model", int]): ...  # noqa: UP037
def of_checkers() -> list[Decimal]: ...
def of_checkers_inside() -> "list['Decimal']": ...  # noqa: UP037
def each() -> Annotated[list["Model"], Each]: ...  # noqa: UP037
def maybe() -> "Model | None": ...  # noqa: UP037


inside.__annotations__["return"] = dict[str, "Model"]
several.__annotations__["return"] = Output(first=list["Model"], second=tuple["Model", int])
each.__annotations__["return"] = Annotated[list["Model"], Each]


@pytest.mark.parametrize(
    ("function", "value", "place"),
    [
        (whole, {"a": 1}, r"output\['a'\]"),
        (inside, {"a": Model(), "b": 1}, r"output\['b'\]"),
        (several, ([1], (Model(), 1)), r"first\[0\]"),
        (several, ([Model()], (1, 1)), r"second\[0\]"),
        (of_checkers, [1.5], r"output\[0\]"),
        (of_checkers_inside, ["1.5"], r"output\[0\]"),
        (each, [Model(), 1], r"output\[1\]"),
        (maybe, 1, "output"),
    ],
)
def test_a_type_that_is_text_is_checked(function, value, place):
    """A value is checked against a type that is text, also with names that are imported for type checkers only."""
    outputs = declared_outputs(function)
    with pytest.raises(OutputError, match=f"Step 's': output '{place}' is declared .*(Model|Decimal)"):
        unpack_result(value, outputs, output_types(function, outputs), "s")


def test_what_fits_a_type_that_is_text_passes():
    """A value that fits a type written as text is returned unchanged."""
    for function, value in ((inside, {"a": Model()}), (maybe, None), (each, [Model()])):
        outputs = declared_outputs(function)
        taken = unpack_result(value, outputs, output_types(function, outputs), "s")
        assert list(taken.values()) == (value if function is each else [value])
