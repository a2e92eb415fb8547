"""Where a value stands that is held against its declared type, for the error that it may get."""

from __future__ import annotations

from typing import Any, Self

import msgspec
from msgspec.structs import replace

from airflow_zen.errors import InputError, OutputError, TypeMismatch


class ValuePath(msgspec.Struct, frozen=True):
    """An output that a function returned, or a value within it, such as `scores[3]`."""

    name: str

    def at(self, step: str) -> Self:
        """Go to a place within."""
        return replace(self, name=f"{self.name}{step}")

    def type_error(self, declared: object, actual: str) -> TypeMismatch:
        """Say that something else came than what is declared."""
        return OutputError(f"output '{self.name}' is declared {declared}, but the function returned {actual}.")


class InputPath(ValuePath, frozen=True):
    """A parameter that an artifact was loaded for, or a value within that."""

    def type_error(self, declared: object, actual: str) -> TypeMismatch:
        """Say that the artifact has no such view."""
        return InputError(
            f"{self.name} is asked for as {declared}, but its artifact holds {actual}, which has no such view. Ask for what "
            "it holds, or for no type, and convert it there."
        )


def type_display_name(declared: Any) -> str:
    """Write a class, or a declared type, for people."""
    return str(getattr(declared, "__qualname__", declared))
