"""Where a value stands that is held against its declared type, for the error that it may get."""

from __future__ import annotations

from typing import Any, Self

import msgspec
from msgspec.structs import replace

from airflow_zen.errors import InputError, Misfit, OutputError


class Place(msgspec.Struct, frozen=True):
    """An output that a function returned, or a value within it, such as `scores[3]`."""

    name: str

    def at(self, step: str) -> Self:
        """Go to a place within."""
        return replace(self, name=f"{self.name}{step}")

    def misfit(self, declared: object, came: str) -> Misfit:
        """Say that something else came than what is declared."""
        return OutputError(f"output '{self.name}' is declared {declared}, but the function returned {came}.")


class InputPlace(Place, frozen=True):
    """A parameter that an artifact was loaded for, or a value within that."""

    def misfit(self, declared: object, came: str) -> Misfit:
        """Say that the artifact has no such view."""
        return InputError(
            f"{self.name} is asked for as {declared}, but its artifact holds {came}, which has no such view. Ask for what "
            "it holds, or for no type, and convert it there."
        )


def class_name(declared: Any) -> str:
    """Write a class, or a declared type, for people."""
    return str(getattr(declared, "__qualname__", declared))
