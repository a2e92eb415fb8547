"""A refused value, the advice of the refusal, and a check that the advice works."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.registry import default_registry

REGISTRY = default_registry()


@dataclass(frozen=True)
class Remedy:
    """A value that is refused, a piece of the advice, and what the advice makes of the value.

    `check` gets what was loaded and the refused value.
    """

    make: Callable[[], Any]
    advice: str
    apply: Callable[[Any], Any]
    check: Callable[[Any, Any], bool]

    def show(self, directory: Path) -> None:
        """Provoke the refusal, find the advice in it, do what it says, and store and load the result."""
        value = self.make()
        with pytest.raises(SaveRefused, match=re.escape(self.advice)):
            _round_trip(value, directory / "refused")
        assert self.check(_round_trip(self.apply(value), directory / "artifact"), value)


def library(name: str) -> Any:
    """Return an installed library; skip the calling test without it."""
    return pytest.importorskip(name, reason=f"{name} is not installed: make test-ml")


def _round_trip(value: Any, directory: Path) -> Any:
    directory.mkdir()
    return REGISTRY.load(directory, REGISTRY.save(value, directory).encoding)
