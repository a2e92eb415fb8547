"""The space of a sweep: lists of values, and the distributions `Uniform`, `LogUniform` and `IntUniform`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice, product
from random import Random
from typing import Any

import msgspec

from airflow_zen.errors import StepDefinitionError

_PLAIN = (bool, int, float, str, type(None))


class _Interval(msgspec.Struct, frozen=True):
    low: float
    high: float

    def __post_init__(self) -> None:
        """Raise `StepDefinitionError` for an interval that contains no value."""
        numbers: list[Any] = [self.low, self.high]
        is_valid = all(type(each) in (int, float) and math.isfinite(each) for each in numbers)
        if not is_valid or self.low >= self.high:
            raise StepDefinitionError(f"{self!r} takes two finite numbers, the lower one first.")


class Uniform(_Interval, frozen=True):
    """Numbers between `low` and `high`, all equally likely."""

    def sample(self, random: Random) -> float:
        """Return a random value."""
        return random.uniform(self.low, self.high)


class LogUniform(_Interval, frozen=True):
    """Numbers between `low`, which is above zero, and `high`, whose logarithms are equally likely."""

    def __post_init__(self) -> None:
        """Raise `StepDefinitionError` for an interval without logarithms."""
        super().__post_init__()
        if self.low <= 0:
            raise StepDefinitionError(
                f"{self!r} begins above zero, because zero has no logarithm. Write a small number such as 1e-6, or "
                f"Uniform({self.low!r}, {self.high!r})."
            )

    def sample(self, random: Random) -> float:
        """Return a random value."""
        value = math.exp(random.uniform(math.log(self.low), math.log(self.high)))
        return min(max(value, self.low), self.high)


class IntUniform(_Interval, frozen=True):
    """Whole numbers from `low` to `high`, both included, all equally likely."""

    def __post_init__(self) -> None:
        """Raise `StepDefinitionError` for bounds that are not whole."""
        super().__post_init__()
        if not (isinstance(self.low, int) and isinstance(self.high, int)):
            raise StepDefinitionError(
                f"{self!r} takes whole numbers. Write Uniform for fractions: Uniform({self.low!r}, {self.high!r})."
            )

    def sample(self, random: Random) -> int:
        """Return a random value."""
        return random.randint(int(self.low), int(self.high))


Distribution = Uniform | LogUniform | IntUniform | tuple[Any, ...]
"""The values that one parameter may have; a tuple is a choice."""


def as_space(space: Any) -> dict[str, Distribution]:
    """Return a space with choices as tuples. Raises `StepDefinitionError` for what is no space."""
    if not isinstance(space, Mapping) or not space:
        raise StepDefinitionError(
            f"sweep(space=…) is a dict by parameter, such as {{'depth': [4, 8], 'rate': LogUniform(1e-3, 1)}}, got {space!r}."
        )
    return {str(name): _as_distribution(str(name), values) for name, values in space.items()}


def _as_distribution(name: str, values: Any) -> Distribution:
    if isinstance(values, Uniform | LogUniform | IntUniform):
        return values
    choices = tuple(values) if isinstance(values, list | tuple | range) else ()
    if not choices or not all(isinstance(choice, _PLAIN) for choice in choices):
        raise StepDefinitionError(
            f"sweep(space=…): {name!r} is a list of numbers, texts, True, False or None, or one of Uniform, LogUniform and "
            f"IntUniform, got {values!r}. Choose other values in the step, by a name from the list."
        )
    return choices


def sample(distribution: Distribution, random: Random) -> Any:
    """Return a random value of a distribution."""
    return random.choice(distribution) if isinstance(distribution, tuple) else distribution.sample(random)


def sample_points(space: Mapping[str, Distribution], trials: int, seed: int) -> list[dict[str, Any]]:
    """Return the parameters of random trials; those of one trial depend on its number, the seed and the space only."""
    return [_sample_point(space, Random(f"{seed}/{number}")) for number in range(trials)]  # noqa: S311


def _sample_point(space: Mapping[str, Distribution], random: Random) -> dict[str, Any]:
    return {name: sample(distribution, random) for name, distribution in space.items()}


def grid_points(space: Mapping[str, Distribution], trials: int | None) -> list[dict[str, Any]]:
    """Return all combinations of the choices, or the first `trials`; the last parameter changes fastest.

    Raises `StepDefinitionError` for a distribution, which has no list of values.
    """
    for name, distribution in space.items():
        if not isinstance(distribution, tuple):
            raise StepDefinitionError(
                f"sweep(sampler='grid') takes lists of values, got {name}={distribution!r}. Write a list, or sampler='random'."
            )
    choices: list[Sequence[Any]] = [held for held in space.values() if isinstance(held, tuple)]
    return [dict(zip(space, point, strict=True)) for point in islice(product(*choices), trials)]
