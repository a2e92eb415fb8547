"""Record calls of a step's function in a file, which is not part of its cache key."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

CALLS_FILE_VARIABLE = "TEST_CALLS"


def record_call(call: Any) -> None:
    """Record one call."""
    with Path(os.environ[CALLS_FILE_VARIABLE]).open("a") as file:
        file.write(f"{call!r}\n")


def recorded_calls() -> list[Any]:
    """Return the recorded calls, in order."""
    path = Path(os.environ[CALLS_FILE_VARIABLE])
    return [ast.literal_eval(line) for line in path.read_text().splitlines()] if path.exists() else []
