"""Promises of lists whose elements are artifacts."""

from collections.abc import Iterator, Sequence
from typing import Annotated, NamedTuple

import pandas as pd
import pytest

from airflow_zen.errors import OutputError, StepDefinitionError
from airflow_zen.steps.outputs import Each, Output, Outputs, declared_outputs


class Fields(NamedTuple):
    parts: Annotated[list[int], Each]
    count: int


def numbers(count: int) -> Annotated[list[float], Each]:
    return list(range(count))


def named(count: int) -> Annotated[list[int], "parts", Each]:
    return list(range(count))


def as_text(count: int) -> 'Annotated[list["Unknown"], Each]':  # noqa: F821
    return list(range(count))


def plain(count: int) -> list[float]:
    return [float(n) for n in range(count)]


def test_mark_is_read_at_parse_time():
    """A mark is read from evaluated annotations and from text, without evaluating the type beside it."""
    assert declared_outputs(numbers) == Outputs(each=True)
    assert declared_outputs(named) == Outputs(("parts",), each=True)
    assert declared_outputs(as_text) == Outputs(each=True)
    assert not declared_outputs(plain).each


def test_each_element_is_an_artifact(run, stack):
    """Every element is stored separately, as the declared element type, and named by its position."""
    done = run(numbers, 3)
    assert list(done.outputs) == ["output[0]", "output[1]", "output[2]"]
    assert [ref.name for ref in done.outputs.values()] == ["d/t[0]", "d/t[1]", "d/t[2]"]
    assert {ref.type for ref in done.outputs.values()} == {"builtins.float"}
    assert list(run(named, 1).outputs) == ["parts[0]"]


def test_order_survives_the_cache(run):
    """A hit returns the refs of a long list in order."""
    first = run(numbers, 25)
    again = run(numbers, 25)
    assert again.cache == "hit"
    assert [ref.digest for ref in again.outputs.values()] == [ref.digest for ref in first.outputs.values()]
    assert [ref.name for ref in again.outputs.values()] == [f"d/t[{n}]" for n in range(25)]


def test_one_list_and_many_artifacts_are_other_work(run):
    """A step whose list gets the mark is other work."""

    def listed() -> list[int]:
        return [1]

    first = run(listed)
    listed.__annotations__["return"] = Annotated[list[int], Each]
    second = run(listed)
    assert (first.cache, second.cache) == ("miss", "miss")
    assert list(second.outputs) == ["output[0]"]


def test_result_that_is_no_list_is_refused(run):
    """A marked output that is no list, or has an element of another type, fails before anything is stored."""

    def single() -> Annotated[list[int], Each]:
        return 3

    def wrong() -> Annotated[list[pd.DataFrame], Each]:
        return [pd.DataFrame({"a": [1]}), 3]

    with pytest.raises(OutputError, match="Return a list"):
        run(single)
    with pytest.raises(OutputError, match=r"'output\[1\]' is declared DataFrame"):
        run(wrong)


def test_mark_among_several_outputs_is_refused():
    """One of several outputs cannot be expanded over; this is an error when the step is defined."""

    def both() -> Output(parts=Annotated[list[int], Each], count=int):
        return [1], 1

    def written() -> 'tuple[Annotated[list[int], "parts", Each], Annotated[int, "count"]]':
        return [1], 1

    def fields() -> Fields:
        return Fields([1], 1)

    for function in (both, written, fields):
        with pytest.raises(StepDefinitionError, match="the only output"):
            declared_outputs(function)


def test_mark_inside_another_type_is_refused():
    """A marked list that may be None, or is in another list, is an error when the step is defined."""

    def missing() -> Annotated[list[int], Each] | None:
        return [1]

    def inner() -> list[Annotated[list[int], Each]]:
        return [[1]]

    def written() -> "Annotated[list[int], Each] | None":
        return [1]

    def written_inside() -> "Optional[Annotated[list[Unknown], Each]]":  # noqa: F821
        return [1]

    for function in (missing, inner, written, written_inside):
        with pytest.raises(StepDefinitionError, match="the only output.*instead of None"):
            declared_outputs(function)


def test_mark_around_another_type_is_refused_in_the_definition():
    """A dict, a stream or a frame is refused; every type that a list can be declared as is accepted."""

    def a_dict() -> Annotated[dict[str, int], Each]: ...

    def a_stream() -> Annotated[Iterator[int], Each]: ...

    def a_frame() -> Annotated[pd.DataFrame, Each]: ...

    def a_sequence() -> Annotated[Sequence[int], Each]: ...

    def a_tuple() -> Annotated[tuple[int, ...], Each]: ...

    for function in (a_dict, a_stream, a_frame):
        with pytest.raises(StepDefinitionError, match=r"Each marks a list.*got .*Annotated\[list\[T\], Each\]"):
            declared_outputs(function)
    assert declared_outputs(a_sequence).each
    assert declared_outputs(a_tuple).each
