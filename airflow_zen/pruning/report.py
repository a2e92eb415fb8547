"""What a prune found and did: bytes by what became of them, and by who holds them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from airflow_zen.lineage.quantities import bytes_text, seconds_text
from airflow_zen.pruning.holders import Holder


@dataclass
class Tally:
    """A number of artifacts and their bytes."""

    artifacts: int = 0
    size: int = 0

    def add(self, size: int) -> None:
        """Count one more."""
        self.artifacts += 1
        self.size += size

    def __str__(self) -> str:
        return f"{self.artifacts} artifact{'' if self.artifacts == 1 else 's'} ({bytes_text(self.size)})"


@dataclass(frozen=True)
class Held:
    """What one holder holds: all of it, and the part that would be free without it."""

    holder: Holder
    all: Tally
    alone: Tally


@dataclass
class PruneReport:
    """Sum up a prune.

    `kept` are held, or younger than the grace; `condemned` will go once the grace is over; `deleted` are gone, or
    would be if it were no dry run; `leftovers` are parts of uploads that never ended. `versions`, `cache_entries`
    and `mlflow_runs` count what expired. `grace` is the retention's, in seconds. As text it is a few lines for a log.
    """

    dry_run: bool
    grace: float
    kept: Tally = field(default_factory=Tally)
    condemned: Tally = field(default_factory=Tally)
    deleted: Tally = field(default_factory=Tally)
    leftovers: Tally = field(default_factory=Tally)
    versions: int = 0
    cache_entries: int = 0
    mlflow_runs: int = 0
    _of: dict[Holder, tuple[Tally, Tally]] = field(default_factory=lambda: defaultdict(lambda: (Tally(), Tally())))

    def keep(self, size: int, holders: Collection[Holder]) -> None:
        """Count an artifact that stays."""
        self.kept.add(size)
        for holder in holders:
            self._of[holder][0].add(size)
            if len(holders) == 1:
                self._of[holder][1].add(size)

    @property
    def held(self) -> list[Held]:
        """Tell who holds how much, the largest first."""
        found = [Held(holder, whole, alone) for holder, (whole, alone) in self._of.items()]
        return sorted(found, key=lambda each: (-each.all.size, each.holder.kind, each.holder.name))

    def __str__(self) -> str:
        would = "would be " if self.dry_run else ""
        told = [
            f"{self.kept} kept",
            f"{self.condemned} {would}condemned: a prune after {seconds_text(self.grace)} or later deletes them",
            f"{self.deleted} {would}deleted",
        ]
        if self.leftovers.artifacts:
            told.append(f"{self.leftovers} of uploads that never ended {would}deleted")
        expired = {"versions": self.versions, "cache entries": self.cache_entries, "MLflow runs": self.mlflow_runs}
        return "\n".join([*told, *(f"{count} {what} {would}deleted" for what, count in expired.items() if count)])
