"""The retention of versions, DAG runs and cache entries, which keep their artifacts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_zen.errors import SettingsError

DAY = 86_400.0

_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": DAY, "w": 7 * DAY}


@dataclass(frozen=True)
class Retention:
    """The ages and numbers of objects that keep their artifacts; all times in seconds.

    `older_than`: versions, DAG runs and cache entries of this age expire; None keeps them all. `keep_last`: the number
    of newest versions of each name that are kept at any age, one if it is None; with 0, names expire that are no longer
    written. Without `older_than`, older versions expire at any age. Without both, only unreferenced artifacts are
    deleted. `grace`: nothing written within it is deleted, and an unreferenced artifact is deleted only after it.
    `expire_mlflow_runs`: DAG runs of that age are also deleted in MLflow, where they otherwise keep their artifacts.
    """

    older_than: float | None = None
    keep_last: int | None = None
    grace: float = DAY
    expire_mlflow_runs: bool = False

    @classmethod
    def parse(
        cls, older_than: str | None, keep_last: int | None, grace: str, expire_mlflow_runs: bool = False
    ) -> Retention:
        """Return a retention with durations as text, such as `90d`; raise `SettingsError` for one that is not valid."""
        age = None if older_than is None else parse_duration(older_than)
        return cls(age, keep_last, parse_duration(grace), expire_mlflow_runs)

    def __post_init__(self) -> None:
        if self.keep_last is not None and self.keep_last < int(self.older_than is None):
            raise SettingsError(
                f"keep_last cannot be {self.keep_last}: without older_than at least one version of each name stays."
            )
        if self.grace < 0 or (self.older_than is not None and self.older_than < self.grace):
            raise SettingsError(
                f"older_than must not be shorter than the grace of {self.grace:.0f} s: set a longer age, or a shorter grace."
            )
        if self.expire_mlflow_runs and self.older_than is None:
            raise SettingsError(
                "expire_mlflow_runs needs older_than, the age from which DAG runs are deleted in MLflow."
            )

    def cutoff(self, now: float) -> float | None:
        """Return the time from which DAG runs and cache entries are kept; None if all are."""
        return None if self.older_than is None else now - self.older_than

    def version_cutoff(self, now: float) -> float | None:
        """Return the time from which versions are kept; None if all are."""
        return now - self.grace if self.older_than is None and self.keep_last else self.cutoff(now)

    @property
    def min_versions(self) -> int:
        """Return the number of versions of each name that are kept at any age."""
        return 1 if self.keep_last is None else self.keep_last


def parse_duration(text: str) -> float:
    """Return a duration such as `90d`, `36h` or `45m` in seconds; raise `SettingsError` for other texts."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip().lower())
    if found is None:
        raise SettingsError(f"{text!r} is no duration. Write a number and one of s, m, h, d, w: '90d'.")
    return float(found[1]) * _UNITS[found[2]]
