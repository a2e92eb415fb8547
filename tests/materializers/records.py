"""Users' own classes, as a step's module would define them."""

from __future__ import annotations

import enum
from collections import namedtuple
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import pydantic

T = TypeVar("T")


class Color(enum.Enum):
    RED = 1
    BLUE = "blue"


class Level(enum.StrEnum):
    LOW = "low"


class Name(str, enum.Enum):  # noqa: UP042 - the older spelling is what many users have
    ADA = "ada"


class Size(enum.IntEnum):
    SMALL = 1


class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Mode(enum.IntFlag):
    A = 1
    B = 2


Point = namedtuple("Point", ["x", "y"])  # noqa: PYI024 - the untyped kind


class Range(NamedTuple):
    low: float
    high: float = 1.0


@dataclass
class Params:
    depth: int
    rate: float = 0.1
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frozen:
    values: list[int]
    inner: Params | None = None


@dataclass(slots=True)
class Slotted:
    a: int
    b: Any = None


@dataclass(frozen=True, slots=True)
class FrozenSlotted:
    a: int


@dataclass
class Computed:
    a: int
    double: int = field(init=False)

    def __post_init__(self) -> None:
        self.double = self.a * 2

    @cached_property
    def triple(self) -> int:
        return self.a * 3


@dataclass
class Child(Params):
    extra: Any = None


@dataclass
class Report:
    name: str
    table: Any


@dataclass
class ListWithFields(list[int]):
    a: int = 1


@dataclass
class Box(Generic[T]):
    item: T


class Holder(pydantic.BaseModel, Generic[T]):
    item: T


class Settings(pydantic.BaseModel):
    depth: int = 3
    names: list[str] = []
    inner: Settings | None = None
    _secret: int = pydantic.PrivateAttr(default=7)


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", frozen=True)
    a: int


class Frames(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    table: pd.DataFrame
    by_name: dict[str, np.ndarray]


class Fitted(NamedTuple):
    model: Any
    scores: np.ndarray


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Strict(pydantic.BaseModel):
    at_most_ten: int

    @pydantic.field_validator("at_most_ten")
    @classmethod
    def check(cls, value: int) -> int:
        if value > 10:
            raise ValueError("too large")
        return value


@pydantic.dataclasses.dataclass
class Validated:
    a: int


class MyDict(dict[Any, Any]):
    pass


class MyInt(int):
    pass


class MyList(list[Any]):
    pass


class MyStr(str):
    __slots__ = ()


class Plain:
    def __init__(self, a: int) -> None:
        self.a = a
