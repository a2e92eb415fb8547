"""Memory limits as Kubernetes writes them, and the limit of a try of a task."""

from __future__ import annotations

import re
from collections.abc import Sequence

from airflow_zen.errors import StepDefinitionError

_FACTORS = {"": 1, **{unit: 1000**n for n, unit in enumerate("kMGT", 1)}}
_FACTORS |= {f"{unit}i": 1024**n for n, unit in enumerate("KMGT", 1)}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([kMGT]|[KMGT]i)?")


def memory_limits(memory: object) -> tuple[str, ...]:
    """Return the limits of the first and of later tries; empty for no limit.

    `memory` is one limit or a sequence of them. Raises `StepDefinitionError` for anything else.
    """
    limits = (memory,) if isinstance(memory, str) else memory
    if not isinstance(limits, list | tuple):
        raise StepDefinitionError(f"memory must be one limit, or one for each try: ('4Gi', '16Gi'), got {memory!r}.")
    for limit in limits:
        memory_bytes(limit)
    return tuple(limits)


def memory_of_try(limits: Sequence[str], try_number: int) -> str:
    """Return the limit of a try, counted from 1; tries after the last limit have that limit. "" for no limit."""
    return limits[min(max(try_number, 1), len(limits)) - 1] if limits else ""


def memory_bytes(amount: object) -> int:
    """Return an amount, such as 4Gi, in bytes. Raises `StepDefinitionError`."""
    found = _AMOUNT.fullmatch(amount) if isinstance(amount, str) else None
    if found is None:
        raise StepDefinitionError(f"An amount of memory is written as '4Gi' or '500M', got {amount!r}.")
    return int(float(found[1]) * _FACTORS[found[2] or ""])
