"""The story of a prune: mark what is held, let go what expired, condemn what nobody holds, delete what stayed so."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sized
from itertools import islice
from typing import TYPE_CHECKING

from airflow_zen.artifacts.leases import try_lock
from airflow_zen.errors import ArtifactNotFound, PruneBusy
from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
from airflow_zen.lineage.savings import format_bytes
from airflow_zen.progress import Progress, ProgressCallback, ignore_progress
from airflow_zen.pruning.mark import (
    RecentRuns,
    ReferrerIndex,
    StoredArtifact,
    list_stored_artifacts,
    mark_cache,
    mark_runs,
    mark_versions,
)
from airflow_zen.pruning.mlflow import MlflowReferences
from airflow_zen.pruning.report import ArtifactCount, PruneReport

if TYPE_CHECKING:
    from airflow_zen.pruning.retention import Retention
    from airflow_zen.stack import Stack
    from airflow_zen.transports.base import Transport

_LOCK_KEY = "prune/turn.json"
# What one request to S3 deletes.
_MAX_KEYS_PER_DELETE = 1000
# Artifacts that are listed between two words about it.
_PROGRESS_INTERVAL = 20


def prune_stack(
    stack: Stack,
    retention: Retention,
    unfinished: Collection[tuple[str, str]] = (),
    *,
    dry_run: bool = False,
    on_progress: ProgressCallback = ignore_progress,
) -> PruneReport:
    """Free the artifact root of what nobody refers to; say what was found and done.

    `unfinished` are DAG and run ids that Airflow has not finished. An artifact is deleted when an earlier prune
    condemned it, `retention.grace` ago or longer, and still nobody holds it; with no grace, at once. Stopped at any
    moment and run again it goes on where it was. `on_progress` hears how far it is. Raises `PruneBusy` while another one is at it, `LineageError` when
    MLflow, which may hold artifacts, is away.
    """
    with try_lock(stack.store.transport, _LOCK_KEY, stack.clock) as acquired:
        if not acquired:
            raise PruneBusy("Another prune of this artifact root is running. Wait for it, at most 15 minutes.")
        return _Prune(stack, retention, dry_run, on_progress).run(unfinished)


class _Prune:
    def __init__(self, stack: Stack, retention: Retention, dry_run: bool, on_progress: ProgressCallback) -> None:
        self._stack = stack
        self._transport: Transport = stack.store.transport
        self._retention = retention
        self._dry_run = dry_run
        self._on_progress = on_progress
        self._now = stack.clock()
        self._referrers = ReferrerIndex()
        self._report = PruneReport(dry_run, retention.grace)
        self._freed = ArtifactCount()

    def run(self, unfinished: Collection[tuple[str, str]]) -> PruneReport:
        since, young = self._retention.cutoff(self._now), self._retention.version_cutoff(self._now)
        runs = mark_runs(self._transport, self._referrers, since, unfinished, self._on_progress)
        entries, leases = mark_cache(
            self._stack.cache, self._referrers, runs.cache_keys, since, self._grace_cutoff, self._on_progress
        )
        self._mark_mlflow(since, runs)
        versions = mark_versions(
            self._transport, self._referrers, self._retention.min_versions, young, self._on_progress
        )
        self._report.versions, self._report.cache_entries = len(versions), len(entries)
        # What leads to an artifact goes before it does.
        self._delete([*versions, *entries, *leases], "Deleting versions and cache entries")
        to_delete = self._sweep()
        self._delete_files(to_delete)
        return self._report

    @property
    def _grace_cutoff(self) -> float:
        """What was written later than this stays, whoever refers to it."""
        return self._now - self._retention.grace if self._retention.grace else math.inf

    def _mark_mlflow(self, since: float | None, runs: RecentRuns) -> None:
        recorder = self._stack.lineage
        if not isinstance(recorder, MlflowRecorder):
            return
        references = MlflowReferences(recorder.rest, self._transport, self._stack.store.root, self._on_progress)
        references.load()
        expired = (
            references.find_expired_runs(since, runs)
            if self._retention.expire_mlflow_runs and since is not None
            else []
        )
        self._report.mlflow_runs = len(expired)
        if not self._dry_run:
            references.delete_runs(expired)
        references.mark(self._referrers, frozenset(expired))

    def _sweep(self) -> set[str]:
        """Look at every artifact once; make those invisible that go, and give them."""
        before, tombstones = read_tombstones(self._transport), {}
        to_delete: dict[str, str | None] = {}
        for artifact in list_stored_artifacts(self._transport):
            self._report_listing()
            if artifact.digest in self._referrers or artifact.modified > self._grace_cutoff:
                self._report.add_retained(artifact.size, self._referrers.of(artifact.digest))
            elif artifact.manifest is None:
                self._report.leftovers.add(artifact.size)
                to_delete[artifact.digest] = None
            elif before.get(artifact.digest, self._now) <= self._now - self._retention.grace:
                self._report.deleted.add(artifact.size)
                to_delete[artifact.digest] = artifact.manifest
                tombstones[artifact.digest] = before.get(artifact.digest, self._now)
            else:
                self._report.condemned.add(artifact.size)
                tombstones[artifact.digest] = before.get(artifact.digest, self._now)
        if not self._dry_run:
            write_tombstones(self._transport, tombstones)
        # Without its manifest an artifact is none: no reader finds half of it.
        self._delete([manifest for manifest in to_delete.values() if manifest], "Making artifacts invisible")
        return set(to_delete)

    def _report_listing(self) -> None:
        report = self._report
        counts = {"kept": report.kept, "condemned": report.condemned, "to delete": report.deleted}
        listed = sum(count.artifacts for count in counts.values()) + report.leftovers.artifacts
        if listed % _PROGRESS_INTERVAL == 0:
            note = ", ".join(
                f"{count.artifacts:,} {label} ({format_bytes(count.size)})" for label, count in counts.items()
            )
            self._on_progress(Progress("Listing artifacts", listed, note=note))

    def _delete_files(self, to_delete: set[str]) -> None:
        """Delete the files of what is no artifact any more; what a step stored again in the meantime stays."""
        if to_delete and not self._dry_run:
            self._delete(
                (key for artifact in self._deletable_artifacts(to_delete) for key in artifact.keys), "Deleting files"
            )
            previews = self._transport.list("previews")
            self._delete((key for key in previews if key.split("/")[2] in to_delete), "Deleting previews")

    def _deletable_artifacts(self, to_delete: set[str]) -> Iterator[StoredArtifact]:
        for artifact in list_stored_artifacts(self._transport):
            if artifact.digest in to_delete and artifact.manifest is None and artifact.modified <= self._grace_cutoff:
                self._freed.add(artifact.size)
                yield artifact

    def _delete(self, keys: Iterable[str], stage: str) -> None:
        if self._dry_run:
            return
        todo, done, total = iter(keys), 0, len(keys) if isinstance(keys, Sized) else None
        while some := list(islice(todo, _MAX_KEYS_PER_DELETE)):
            self._transport.delete(some)
            done += len(some)
            freed = f"{self._freed} freed" if self._freed.artifacts else ""
            self._on_progress(Progress(stage, done, total, freed))


_TOMBSTONES_KEY = "prune/condemned.json"


def read_tombstones(transport: Transport) -> dict[str, float]:
    """Give the condemned digests, each with the time of its first condemnation in seconds since the epoch."""
    try:
        found = json.loads(transport.read(_TOMBSTONES_KEY))
        return {str(digest): float(since) for digest, since in found.items()}
    except (ArtifactNotFound, ValueError, AttributeError, TypeError):
        # What cannot be read is condemned anew: its time begins again.
        return {}


def write_tombstones(transport: Transport, tombstones: Mapping[str, float]) -> None:
    """Keep them for the next time; one request."""
    transport.write(_TOMBSTONES_KEY, json.dumps(tombstones, indent=0, sort_keys=True).encode())
