"""One step of a plan: whether a run would reuse it, and the line that sums up all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from airflow_zen.markup import format_count, format_seconds


class Decision(StrEnum):
    """Whether a run would reuse or compute a step; unknown if it depends on the run."""

    HIT = "hit"
    MISS = "miss"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class PlannedStep:
    """One step of a planned run; `seconds` and `size` (bytes) are estimates from earlier results, None without any.

    `runtime` is the text of a runtime other than the task's process. `environment` are its contents by their labels in
    the cache key: `python`, `distribution NAME` or `image`. `warning` says that its memory may not be enough.
    """

    task_id: str
    map_index: int
    decision: Decision
    reason: str
    seconds: float | None = None
    size: int | None = None
    runtime: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    warning: str = ""


def plan_summary(steps: Sequence[tuple[Decision, float | None]]) -> str:
    """Return a plan as one line, from the decision and the seconds of each step: how many there are of each, and times."""
    count = Counter(decision for decision, _ in steps)
    saved = sum(seconds or 0 for decision, seconds in steps if decision is Decision.HIT)
    known = [seconds for decision, seconds in steps if decision is Decision.MISS and seconds is not None]
    parts = [
        f"{count[Decision.HIT]} reused ({format_seconds(saved)} saved)",
        f"{count[Decision.MISS]} computed" + (f", about {format_seconds(sum(known))}" if known else ""),
        *([f"{count[Decision.UNKNOWN]} unknown until the run"] if count[Decision.UNKNOWN] else []),
    ]
    return f"{format_count(len(steps), 'step')}: {', '.join(parts)}"
