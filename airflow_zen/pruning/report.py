"""What a prune found and did: bytes by what became of them, and by who holds them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_zen.lineage.savings import format_bytes, format_seconds

if TYPE_CHECKING:
    from airflow_zen.pruning.mark import Referrer


@dataclass
class ArtifactCount:
    """A number of artifacts and their bytes."""

    artifacts: int = 0
    size: int = 0

    def add(self, size: int) -> None:
        """Count one more."""
        self.artifacts += 1
        self.size += size

    def __str__(self) -> str:
        return f"{self.artifacts} artifact{'' if self.artifacts == 1 else 's'} ({format_bytes(self.size)})"


@dataclass(frozen=True)
class ReferrerUsage:
    """What one holder holds: all of it, and the part that would be free without it."""

    referrer: Referrer
    total: ArtifactCount
    exclusive: ArtifactCount


@dataclass
class PruneReport:
    """Sum up a prune.

    `kept` are held, or younger than the grace; `condemned` will go once the grace is over; `deleted` are gone, or
    would be if it were no dry run; `leftovers` are parts of uploads that never ended. `versions`, `cache_entries`
    and `mlflow_runs` count what expired. `grace` is the retention's, in seconds. As text it is a few lines for a log.
    """

    dry_run: bool
    grace: float
    kept: ArtifactCount = field(default_factory=ArtifactCount)
    condemned: ArtifactCount = field(default_factory=ArtifactCount)
    deleted: ArtifactCount = field(default_factory=ArtifactCount)
    leftovers: ArtifactCount = field(default_factory=ArtifactCount)
    versions: int = 0
    cache_entries: int = 0
    mlflow_runs: int = 0
    _usage: dict[Referrer, tuple[ArtifactCount, ArtifactCount]] = field(
        default_factory=lambda: defaultdict(lambda: (ArtifactCount(), ArtifactCount()))
    )

    def add_retained(self, size: int, referrers: Collection[Referrer]) -> None:
        """Count an artifact that stays."""
        self.kept.add(size)
        for referrer in referrers:
            self._usage[referrer][0].add(size)
            if len(referrers) == 1:
                self._usage[referrer][1].add(size)

    @property
    def usage_by_referrer(self) -> list[ReferrerUsage]:
        """Tell who holds how much, the largest first."""
        found = [ReferrerUsage(referrer, whole, exclusive) for referrer, (whole, exclusive) in self._usage.items()]
        return sorted(found, key=lambda each: (-each.total.size, each.referrer.kind, each.referrer.name))

    def __str__(self) -> str:
        would = "would be " if self.dry_run else ""
        lines = [
            f"{self.kept} kept",
            f"{self.condemned} {would}condemned: a prune after {format_seconds(self.grace)} or later deletes them",
            f"{self.deleted} {would}deleted",
        ]
        if self.leftovers.artifacts:
            lines.append(f"{self.leftovers} of uploads that never ended {would}deleted")
        expired = {"versions": self.versions, "cache entries": self.cache_entries, "MLflow runs": self.mlflow_runs}
        return "\n".join([*lines, *(f"{count} {label} {would}deleted" for label, count in expired.items() if count)])
