"""Promises of plain arguments: they are of the declared type, become it, or are refused by name."""

import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, Optional, TypedDict, TypeVar
from uuid import UUID

import annotated_types
import numpy as np
import pandas as pd
import pydantic
import pytest

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.errors import InputError
from airflow_zen.fingerprint import fingerprint
from airflow_zen.materializers.annotations import strip_annotation
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.cache_key import cache_key
from airflow_zen.steps.conversion import convert_argument, load_for_process
from airflow_zen.steps.step import Step
from airflow_zen.type_names import display_name

Seed = NewType("Seed", int)
Number = TypeVar("Number", int, float)


class Color(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Kind(StrEnum):
    GBM = "gbm"


@dataclass(frozen=True)
class Search:
    depth: int
    rates: list[float] = field(default_factory=list)
    color: Color = Color.RED


class Config(pydantic.BaseModel):
    depth: int
    since: datetime | None = None


class Span(TypedDict):
    start: int


class Point(NamedTuple):
    x: int
    y: float


class Limits(TypedDict):
    depth: Annotated[int, annotated_types.Gt(3)]
    rates: NotRequired[list[Annotated[float, pydantic.Field(le=1)]]]
    frame: NotRequired[pd.DataFrame]
    inner: NotRequired["Limits | None"]


Depth = NewType("Depth", Annotated[int, annotated_types.Gt(3)])


class Duck:
    """A class of the user's own."""


def convert(value: Any, declared: Any, **more: Any) -> Any:
    """Bind a call with one argument of a declared type; return the argument as the function would get it."""

    def step(x): ...

    step.__annotations__["x"] = declared
    type_of = Step(step, "step").parameter_type
    return Arguments.bind(step, (value,), {}, type_of=type_of, **more).bound.arguments["x"]


TEXTS = [
    ("3", int, 3),
    (" 3 ", int, 3),
    ("3.0", int, 3),
    ("1e5", int, 100_000),
    ("-7", Seed, -7),
    ("0.1", float, 0.1),
    ("3", float, 3.0),
    ("inf", float, math.inf),
    ("3", int | float, 3),
    ("0.5", Number, 0.5),
    ("True", bool, True),
    ("false", bool, False),
    ("yes", bool, True),
    ("0", bool, False),
    ("None", int | None, None),
    ("None", Optional[float], None),  # noqa: UP045 - as it is written in older code
    ("null", list[int] | None, None),
    ("4", int | None, 4),
    ("4", Annotated[int, "a depth"], 4),
    ("4", Annotated[int, pydantic.Field(gt=3)], 4),
    ("2026-01-02", date, date(2026, 1, 2)),
    ("2026-01-02", datetime, datetime(2026, 1, 2)),
    ("2026-01-02T03:04:05+00:00", datetime, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ("2026-01-02 03:04:05+00:00", datetime | None, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ("03:04", time, time(3, 4)),
    ("P1DT2H", timedelta, timedelta(days=1, hours=2)),
    ("1.10", Decimal, Decimal("1.10")),
    ("1+2j", complex, 1 + 2j),
    ("12345678-1234-5678-1234-567812345678", UUID, UUID("12345678-1234-5678-1234-567812345678")),
    ("data/train.csv", Path, Path("data/train.csv")),
    ("red", Color, Color.RED),
    ("3", Level, Level.HIGH),
    ("gbm", Kind, Kind.GBM),
    ("2", Literal[1, 2], 2),
    ("l2", Literal["l1", "l2"], "l2"),
    ("True", Literal[True, "auto"], True),
    ("auto", Literal[True, "auto"], "auto"),
    ("[1, 2]", list[int], [1, 2]),
    ("['1', '2']", list[int], [1, 2]),
    ("['a', 'b']", list[str], ["a", "b"]),
    ('["a", "b"]', list, ["a", "b"]),
    ("(1, 2)", tuple[int, ...], (1, 2)),
    ("[1, 2.5]", tuple[int, float], (1, 2.5)),
    ("{1, 2}", set[int], {1, 2}),
    ("['a', 'b']", Sequence[str], ["a", "b"]),
    ("[1, 2]", Sequence[int], [1, 2]),
    ("{'lr': 0.1}", dict[str, float], {"lr": 0.1}),
    ('{"lr": "0.1"}', Mapping[str, float], {"lr": 0.1}),
    ("{'depth': 3, 'rates': ['0.1', 1]}", Search, Search(3, [0.1, 1.0])),
    ('{"depth": "3", "color": "red"}', Search | None, Search(3)),
    ('{"depth": "3", "since": "2026-01-02"}', Config, Config(depth=3, since=datetime(2026, 1, 2))),
    ("{'start': 1}", Span, {"start": 1}),
    ("[1, 2]", Point, Point(1, 2.0)),
    ("[{'depth': 1}]", list[Search], [Search(1)]),
]


@pytest.mark.parametrize(("text", "declared", "expected"), TEXTS, ids=lambda value: str(value)[:40])
def test_a_text_becomes_what_is_declared(text, declared, expected):
    """A text, as a template renders it, becomes a value of the declared type."""
    converted = convert(text, declared)
    assert converted == expected
    assert type(converted) is type(expected)


JSON_VALUES = [
    ([1, 2], tuple[int, ...], (1, 2)),
    ([1, 1], set[int], {1}),
    (("a", "b"), list[str], ["a", "b"]),
    (["2026-01-02"], list[date], [date(2026, 1, 2)]),
    ({"depth": 3}, Search, Search(3)),
    ({"depth": 3}, Config, Config(depth=3)),
    ([{"depth": 3}], list[Config], [Config(depth=3)]),
    ({"a": {"depth": 3}}, dict[str, Search], {"a": Search(3)}),
    ({"a": "1"}, dict[str, int], {"a": 1}),
    (3, float, 3.0),
    ([1, 0.5], list[float], [1.0, 0.5]),
    (np.float32(0.5), float, 0.5),
]


@pytest.mark.parametrize(("value", "declared", "expected"), JSON_VALUES, ids=lambda value: str(value)[:40])
def test_a_json_value_becomes_what_is_declared(value, declared, expected):
    """A list or a dict, as XCom and params hold them, becomes the declared container or record, and a number is widened."""
    converted = convert(value, declared)
    assert converted == expected
    assert type(converted) is type(expected)


UNCHANGED = [
    (3, int),
    (True, int),
    ("3", str),
    ("3", int | str),
    ("3", Any),
    ("3", object),
    ("ab", Sequence[str]),
    (None, int | None),
    (None, None),
    ([1, 2], list[int]),
    ((1, 2), Sequence[int]),
    (Search(1), Search),
    (Config(depth=1), Config),
    (Color.RED, Color),
    (datetime(2026, 1, 2), date),
    (pd.Timestamp("2026-01-02"), datetime),
    (max, Callable[..., int]),
    (Duck, type[Duck]),
    ([1.5], np.ndarray),
    ({"a": [1]}, pd.DataFrame),
    (Point(1, 2.0), tuple),
    (iter(()), Iterator[int]),
    ([1], Iterable[int]),
]


@pytest.mark.parametrize(("value", "declared"), UNCHANGED, ids=lambda value: str(value).partition(" at 0x")[0][:40])
def test_what_conforms_is_not_touched(value, declared):
    """What is of the declared type, or of a type without a JSON form, is passed on as the very object."""
    assert convert_argument(value, declared, "x") is value


REFUSED = [
    ("abc", int, r"parameter 'x' is declared int, got 'abc' \(Input should be a valid integer"),
    ("3.5", int, "unable to parse string as an integer"),
    ("maybe", bool, "Input should be a valid boolean"),
    ("tomorrow", date, "parameter 'x' is declared date, got 'tomorrow'"),
    ("blue", Color, "Input should be 'red'"),
    ("3", Literal[1, 2], "Input should be 1 or 2"),
    ("2", Annotated[int, pydantic.Field(gt=3)], "greater than 3"),
    ("['a']", list[int], "valid list"),
    ("abc", Sequence[int], "declared"),
    ("{'depth': 'deep'}", Search, "parameter 'x' is declared Search"),
    ({"depth": "deep"}, Config, r"depth: Input should be a valid integer"),
    ({"deep": 1}, Config, r"depth: Field required"),
    (["a"], list[int], "0: Input should be a valid integer"),
    (3.5, int, r"is declared int, got 3\.5\. Pass a value of that type, or declare float\."),
    (1, bool, r"is declared bool, got 1\."),
    (7, str, "is declared str, got 7.*quotes keep a text"),
    ("some text", pd.DataFrame, "is declared DataFrame, got 'some text'"),
    ("some text", np.ndarray | None, "got 'some text'"),
    (None, int, r"is declared int, got None, as from an upstream task that was skipped.*'int \| None'"),
    (None, pd.DataFrame, r"is declared DataFrame, got None.*'DataFrame \| None'"),
    (None, list[int], "got None"),
    (None, Duck, "got None"),
]


@pytest.mark.parametrize(("value", "declared", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_does_not_fit_is_refused_by_name(value, declared, message):
    """Any other value is refused with the parameter's name, the declared type, the value, and the reason."""
    with pytest.raises(InputError, match=message):
        convert(value, declared)


EVEN = annotated_types.Predicate(lambda x: x % 2 == 0)

CONSTRAINED = [
    (4, 2, Annotated[int, pydantic.Field(gt=3)]),
    (4, 2, Annotated[int, annotated_types.Gt(3)]),
    (4, 3, Annotated[int, EVEN] | None),
    (None, 3, Annotated[int, EVEN] | None),
    ("aa", "b", Annotated[str, pydantic.StringConstraints(pattern="^a+$")]),
    ([4, 5], [4, 2], list[Annotated[int, pydantic.Field(gt=3)]]),
    ({"a": 0.5}, {"a": 1.5}, dict[str, Annotated[float, annotated_types.Le(1)]]),
    ([1], [], Annotated[list[int], annotated_types.MinLen(1)]),
    (4, 2, "Depth"),
    ({"depth": 4}, {"depth": 2}, Limits),
    ({"depth": 4, "rates": [1.0]}, {"depth": 4, "rates": [0.5, 1.5]}, Limits),
    ({"depth": 4, "inner": {"depth": 5}}, {"depth": 4, "inner": {"depth": 3}}, Limits),
    ({"depth": 4, "inner": None}, {"depth": 3, "inner": None}, Limits | None),
    ([{"depth": 4}], [{"depth": 4}, {"depth": 3}], list[Limits]),
    ({"a": {"depth": 4}}, {"a": {"depth": 3}}, dict[str, Limits]),
    ((1, {"depth": 4}), (1, {"depth": 3}), tuple[int, Limits]),
    ([{"depth": 4}], [], Annotated[list[Limits], annotated_types.MinLen(1)]),
    ({"a": [{"depth": 4}]}, {"a": []}, dict[str, Annotated[list[Limits], annotated_types.MinLen(1)]]),
]


@pytest.mark.parametrize(("good", "bad", "declared"), CONSTRAINED, ids=range(len(CONSTRAINED)))
def test_constraints_of_the_declaration_hold_for_every_value(good, bad, declared, stack):
    """A number, text or container outside the declared constraints is refused by name, plain or from another step."""
    declared = Depth if declared == "Depth" else declared
    assert convert(good, declared) == good
    name = display_name(strip_annotation(declared))
    with pytest.raises(
        InputError, match=rf"^parameter 'x' is declared {re.escape(name)}, got {re.escape(repr(bad))}: "
    ):
        convert(bad, declared)
    refs = [stack.save(value).ref for value in (good, bad)]
    assert load_for_process(stack, refs[0], declared) == good
    with pytest.raises(InputError, match=r"is declared .*, got .*: "):
        load_for_process(stack, refs[1], declared)


def test_constraints_hold_beside_values_that_pydantic_does_not_know():
    """A table in a typed dict is passed on as it is, and the reason of a refusal says where the value is."""
    good = {"depth": 4, "frame": pd.DataFrame({"a": [1]})}
    assert convert(good, Limits)["frame"] is good["frame"]
    with pytest.raises(
        InputError, match=r"(?s)'x' is declared Limits, got .*: inner\.depth: Input should be greater than 3"
    ):
        convert({**good, "inner": {"depth": 1}}, Limits)


def test_constraints_hold_for_arrays_too():
    """A type that pydantic does not know is held to constraints as well, and the very value is passed on."""
    declared = Annotated[np.ndarray, annotated_types.Predicate(lambda array: array.ndim == 1)]
    good = np.zeros(3)
    assert convert(good, declared) is good
    with pytest.raises(InputError, match="parameter 'x' is declared ndarray, got array"):
        convert(np.zeros((2, 2)), declared)


_DIGEST = "a" * 64
REF = ArtifactRef(_DIGEST, f"/root/artifacts/aa/{_DIGEST}", "pandas.parquet@1", "pandas.DataFrame", 1, "d/t")


@pytest.mark.parametrize("declared", [pd.DataFrame, pd.DataFrame | None, int, list[int], np.ndarray, Search])
def test_a_ref_as_text_is_refused_with_the_way_out(declared):
    """The text that a template makes of an artifact's ref is refused, with two ways to pass the artifact."""
    with pytest.raises(InputError, match=r"got an artifact's ref as text.*train\(load\(\)\).*native_obj=True"):
        convert(str(REF.to_wire()), declared)


def test_artifacts_are_not_converted_and_what_is_beside_them_is():
    """Artifacts in containers are left for loading; a text beside them becomes the declared type."""
    wire = REF.to_wire()
    assert convert(wire, int) == REF
    assert convert([wire, "3"], list[int]) == [REF, 3]
    assert convert({"a": wire, "b": "3"}, dict[str, int]) == {"a": REF, "b": 3}
    assert convert([wire, None], list[pd.DataFrame]) == [REF, None]
    with pytest.raises(InputError, match=r"parameter 'x\[1\]' is declared int, got 'abc'"):
        convert([wire, "abc"], list[int])


def test_defaults_and_the_context_are_left_alone():
    """A default is not checked, None is allowed where it is the default, and the context's own values are as they are."""

    def step(a: int = None, b: int = "unset", ds: date = None): ...  # noqa: RUF013

    type_of = Step(step, "step").parameter_type
    bound = Arguments.bind(step, (None,), {"ds": "2026-01-01"}, frozenset({"ds"}), type_of=type_of).bound
    assert bound.arguments == {"a": None, "b": "unset", "ds": "2026-01-01"}


def test_variable_arguments_are_converted_one_by_one():
    """`*args: int` and `**options: float` hold each argument to the type, except for the context's."""

    def step(*args: int, **options: float): ...

    type_of = Step(step, "step").parameter_type
    given = {"rate": "0.5", "ds": "2026-01-01"}
    bound = Arguments.bind(step, ("1", 2), given, frozenset({"ds"}), type_of=type_of).bound
    assert (bound.args, bound.kwargs) == ((1, 2), {"rate": 0.5, "ds": "2026-01-01"})
    with pytest.raises(InputError, match=r"parameter 'args\[1\]'"):
        Arguments.bind(step, ("1", "x"), {}, type_of=type_of)
    with pytest.raises(InputError, match=r"parameter 'rate'"):
        Arguments.bind(step, (), {"rate": "x"}, type_of=type_of)


def test_equal_values_have_one_cache_key(stack):
    """'3' and 3 are one argument for the cache, and so are a dict and the record that it becomes."""

    def step(depth: int, search: Search, since: datetime) -> int: ...

    type_of = Step(step, "step").parameter_type

    def key(*args: Any) -> str:
        return cache_key(Step(step, "step"), Arguments.bind(step, args, {}, type_of=type_of), stack).key

    since = datetime(2026, 1, 2, tzinfo=UTC)
    assert key("3", {"depth": "1"}, "2026-01-02T00:00:00Z") == key(3, Search(1), since)
    assert key("4", {"depth": "1"}, since) != key(3, Search(1), since)


def test_times_in_models_have_a_fingerprint():
    """A pydantic model with a time in it, whose zone is pydantic's own, can be an argument of a cached step."""
    parsed = Config.model_validate({"depth": 1, "since": "2026-01-02T00:00:00+02:00"})
    assert fingerprint(parsed) == fingerprint(Config.model_validate(parsed.model_dump()))


def test_a_plain_number_costs_nothing():
    """An argument that is of the declared class is passed on before pydantic is needed."""
    code = (
        "import sys; from airflow_zen.steps.arguments import Arguments; from airflow_zen.steps.step import Step\n"
        "def step(a: int, b: float, c: str): ...\n"
        "Arguments.bind(step, (1, 2.0, 'x'), {}, type_of=Step(step, 's').parameter_type)\n"
        "assert 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
