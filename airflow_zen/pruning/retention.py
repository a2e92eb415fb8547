"""How long things are kept."""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_zen.errors import SettingsError

DAY = 86_400.0

_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": DAY, "w": 7 * DAY}


@dataclass(frozen=True)
class Retention:
    """What holds its artifacts, and for how long; all times in seconds.

    `older_than`: versions, DAG runs and cache entries of this age may go; None keeps them all. `keep_last`: this many
    newest versions of each name stay whatever their age, one where it is None; 0 lets names go that are no longer
    made. Without `older_than` the others go at any age. With neither only artifacts go that nobody refers to.
    `grace`: nothing written within it goes, and what is condemned goes only after it. `expire_mlflow_runs`: DAG
    runs of that age are deleted in MLflow too, where they would else hold their artifacts.
    """

    older_than: float | None = None
    keep_last: int | None = None
    grace: float = DAY
    expire_mlflow_runs: bool = False

    def __post_init__(self) -> None:
        if self.keep_last is not None and self.keep_last < int(self.older_than is None):
            raise SettingsError(
                f"Without an age at least one version of each name stays: keep_last cannot be {self.keep_last}."
            )
        if self.grace < 0 or (self.older_than is not None and self.older_than < self.grace):
            raise SettingsError(
                f"What is younger than the grace of {self.grace:.0f} s cannot be old: give a longer age, or a shorter "
                "grace."
            )
        if self.expire_mlflow_runs and self.older_than is None:
            raise SettingsError("Say from which age on DAG runs are deleted in MLflow: older_than.")

    def cutoff(self, now: float) -> float | None:
        """Give the moment from which DAG runs and cache entries are young; None where all of them are."""
        return None if self.older_than is None else now - self.older_than

    def version_cutoff(self, now: float) -> float | None:
        """Give the moment from which versions are young; None where all of them are."""
        return now - self.grace if self.older_than is None and self.keep_last else self.cutoff(now)

    @property
    def min_versions(self) -> int:
        """Give how many versions of each name stay whatever their age."""
        return 1 if self.keep_last is None else self.keep_last


def parse_duration(text: str) -> float:
    """Read a duration such as `90d`, `36h` or `45m` as seconds; raises `SettingsError`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip().lower())
    if found is None:
        raise SettingsError(f"{text!r} is no duration. Write a number and one of s, m, h, d, w: '90d'.")
    return float(found[1]) * _UNITS[found[2]]
