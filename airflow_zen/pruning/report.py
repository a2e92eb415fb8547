"""What a prune found and did: artifacts and bytes by outcome, and by what refers to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_zen.lineage.savings import format_bytes, format_count, format_seconds

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
        return f"{format_count(self.artifacts, 'artifact')} ({format_bytes(self.size)})"


@dataclass(frozen=True)
class ReferrerUsage:
    """What one referrer keeps: all of it, and the part that only it keeps."""

    referrer: Referrer
    total: ArtifactCount
    exclusive: ArtifactCount


@dataclass
class PruneReport:
    """The results of a prune.

    `kept` artifacts are referred to, or younger than the grace. `condemned` ones will be deleted after the grace.
    `deleted` ones are deleted, or would be without `dry_run`. `leftovers` are parts of uploads that did not finish.
    `versions`, `cache_entries` and `mlflow_runs` count what expired. `grace` is the retention's, in seconds. As text a
    report is a few lines for a log.
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
        """Count an artifact that stays, for each of its referrers."""
        self.kept.add(size)
        for referrer in referrers:
            self._usage[referrer][0].add(size)
            if len(referrers) == 1:
                self._usage[referrer][1].add(size)

    @property
    def usage_by_referrer(self) -> list[ReferrerUsage]:
        """Return what each referrer keeps, the largest first."""
        found = [ReferrerUsage(referrer, *counts) for referrer, counts in self._usage.items()]
        return sorted(found, key=lambda each: (-each.total.size, each.referrer.kind, each.referrer.name))

    def __str__(self) -> str:
        would = "would be " if self.dry_run else ""
        lines = [
            f"{self.kept} kept",
            f"{self.condemned} {would}condemned: a prune after {format_seconds(self.grace)} or later deletes them",
            f"{self.deleted} {would}deleted",
        ]
        if self.leftovers.artifacts:
            lines.append(f"{self.leftovers} of uploads that did not finish {would}deleted")
        expired = {"versions": self.versions, "cache entries": self.cache_entries, "MLflow runs": self.mlflow_runs}
        return "\n".join([*lines, *(f"{count} {label} {would}deleted" for label, count in expired.items() if count)])
