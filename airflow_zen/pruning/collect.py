"""A prune: mark referenced artifacts, note the others, and delete those unreferenced for the grace."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sized
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import chain, islice

from msgspec.structs import replace

from airflow_zen.artifacts.folder import PRUNE_LOCK_KEY, ArtifactFolder, list_artifact_folders, prune_mark
from airflow_zen.artifacts.leases import StoreLock, try_lock
from airflow_zen.errors import UNREADABLE, ArtifactNotFound, PruneBusy
from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
from airflow_zen.markup import format_bytes, format_count, format_seconds
from airflow_zen.progress import Progress, ProgressCallback, ignore_progress, track_items
from airflow_zen.pruning.mark import (
    Marker,
    MlflowReferences,
    RecentRuns,
    Referrer,
    ReferrerIndex,
)
from airflow_zen.pruning.retention import Retention
from airflow_zen.runs.step_run import StepRunId, StepState, SuspendedRun
from airflow_zen.stack import Stack
from airflow_zen.transports.base import ObjectInfo, Transport, map_in_parallel, quote_key_part

_TOMBSTONES_KEY = "prune/unreferenced.json"
_PODS, _CHECKPOINTS = "runtimes/pods", "checkpoints"
# The number of keys that one request to S3 deletes, and of artifacts that have about as many.
_MAX_KEYS_PER_DELETE = 1000
_ARTIFACTS_PER_BATCH = 500
_MAX_STRAYS_SHOWN = 5
# The number of artifacts that are listed between two reports of progress.
_PROGRESS_INTERVAL = 20
_ENDED = "StepInterrupted: the DAG run ended while the task was deferred"

DagRuns = Collection[tuple[str, str]]
"""DAG and run ids."""


def prune_stack(
    stack: Stack,
    retention: Retention,
    unfinished: DagRuns = (),
    *,
    dry_run: bool = False,
    on_progress: ProgressCallback = ignore_progress,
) -> PruneReport:
    """Delete unreferenced objects from the artifact root; return a report.

    `unfinished` are the DAG and run ids of DAG runs that Airflow has not finished. An artifact is deleted if an earlier
    prune, `retention.grace` ago or longer, found it unreferenced, and it still is; without grace, at once. A prune that
    was stopped continues when it is run again. Raises `PruneBusy` while another prune runs, `LineageError` when MLflow,
    which may refer to artifacts, is unavailable.
    """
    with try_lock(stack.store.transport, PRUNE_LOCK_KEY, stack.clock) as lock:
        if not lock:
            raise PruneBusy(
                "Another prune of this artifact root is running. Run this again when it has ended; one that was killed keeps "
                "its lock for 15 minutes."
            )
        notices = nullcontext(lambda: None) if dry_run else stack.store.prune_notices.announce(lock.record.holder)
        with notices as wait_for_writers:
            return _Prune(stack, lock, retention, dry_run, on_progress, wait_for_writers).run(unfinished)


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
    """The artifacts that one referrer keeps, and those that only it keeps."""

    referrer: Referrer
    total: ArtifactCount = field(default_factory=ArtifactCount)
    exclusive: ArtifactCount = field(default_factory=ArtifactCount)


@dataclass
class PruneReport:
    """The results of a prune.

    `kept` artifacts are referenced, or younger than the grace. `unreferenced` ones will be deleted after the grace.
    `deleted` ones are deleted, or would be without `dry_run`. `leftovers` are parts of incomplete uploads. `versions`,
    `cache_entries` and `mlflow_runs` count what expired. `strays` are the keys of objects that are unreadable, or not
    the store's; they are kept. `grace` is the retention's, in seconds. As text a report is a few lines for a log.
    """

    dry_run: bool
    grace: float
    kept: ArtifactCount = field(default_factory=ArtifactCount)
    unreferenced: ArtifactCount = field(default_factory=ArtifactCount)
    deleted: ArtifactCount = field(default_factory=ArtifactCount)
    leftovers: ArtifactCount = field(default_factory=ArtifactCount)
    versions: int = 0
    cache_entries: int = 0
    mlflow_runs: int = 0
    strays: list[str] = field(default_factory=list)
    _usage: dict[Referrer, ReferrerUsage] = field(default_factory=dict)

    def add_retained(self, size: int, referrers: Collection[Referrer]) -> None:
        """Count an artifact that stays, for each of its referrers."""
        self.kept.add(size)
        for referrer in referrers:
            usage = self._usage.setdefault(referrer, ReferrerUsage(referrer))
            usage.total.add(size)
            if len(referrers) == 1:
                usage.exclusive.add(size)

    @property
    def usage_by_referrer(self) -> list[ReferrerUsage]:
        """Return the usage of each referrer, the largest first."""
        return sorted(self._usage.values(), key=lambda each: (-each.total.size, each.referrer.kind, each.referrer.name))

    def __str__(self) -> str:
        would = "would be " if self.dry_run else ""
        lines = [
            f"{self.kept} kept",
            f"{self.unreferenced} unreferenced: a prune after {format_seconds(self.grace)} or later deletes them",
            f"{self.deleted} {would}deleted",
        ]
        if self.leftovers.artifacts:
            lines.append(f"{self.leftovers} of uploads that did not finish {would}deleted")
        expired = {"versions": self.versions, "cache entries": self.cache_entries, "MLflow runs": self.mlflow_runs}
        lines += [f"{count} {label} {would}deleted" for label, count in expired.items() if count]
        if self.strays:
            shown = ", ".join(self.strays[:_MAX_STRAYS_SHOWN])
            more = ", …" if len(self.strays) > _MAX_STRAYS_SHOWN else ""
            lines.append(f"{format_count(len(self.strays), 'file')} left that cannot be read: {shown}{more}")
        return "\n".join(lines)


class _Prune:
    def __init__(
        self,
        stack: Stack,
        lock: StoreLock,
        retention: Retention,
        dry_run: bool,
        on_progress: ProgressCallback,
        wait_for_writers: Callable[[], None],
    ) -> None:
        self._stack = stack
        self._lock = lock
        self._transport = stack.store.transport
        self._retention = retention
        self._dry_run = dry_run
        self._on_progress = on_progress
        self._wait_for_writers = wait_for_writers
        self._now = stack.clock()
        # What was written later than this stays, whether or not anything refers to it.
        self._grace_cutoff = self._now - retention.grace if retention.grace else math.inf
        self._referrers = ReferrerIndex()
        self._report = PruneReport(dry_run, retention.grace)
        self._freed = ArtifactCount()
        # The unreferenced digests, each with the time when it was first found so.
        self._tombstones: dict[str, float] = {}

    def run(self, unfinished: DagRuns) -> PruneReport:
        marker = Marker(self._transport, self._referrers, self._report.strays.append, self._on_progress)
        since = self._retention.cutoff(self._now)
        runs = marker.mark_runs(since, unfinished)
        entries, leases = marker.mark_cache(self._stack.cache, runs.cache_keys, since, self._grace_cutoff)
        self._mark_mlflow(since, runs)
        versions = marker.mark_versions(self._retention.min_versions, self._retention.version_cutoff(self._now))
        self._report.versions, self._report.cache_entries = len(versions), len(entries)
        # What refers to an artifact is deleted before the artifact.
        self._delete([*versions, *entries, *leases], "Deleting versions and cache entries")
        self._delete(_list_pod_objects(self._stack, unfinished, self._grace_cutoff), "Deleting specs of pods")
        self._delete(_list_checkpoints(self._transport, unfinished, self._grace_cutoff), "Deleting checkpoints")
        to_delete = self._sweep()
        if to_delete and not self._dry_run:
            self._delete_artifacts(to_delete)
        if not self._dry_run:
            self._stack.store.remove_abandoned()
            _end_suspended_runs(self._stack, unfinished, self._grace_cutoff)
        return self._report

    def _mark_mlflow(self, since: float | None, runs: RecentRuns) -> None:
        recorder = self._stack.lineage
        if not isinstance(recorder, MlflowRecorder):
            return
        references = MlflowReferences(recorder.rest, self._transport, self._stack.store.root, self._on_progress)
        references.load()
        # A retention that expires them has an age.
        expired = references.find_expired_runs(since or 0.0, runs) if self._retention.expire_mlflow_runs else []
        self._report.mlflow_runs = len(expired)
        if not self._dry_run:
            references.delete_runs(expired)
        references.mark(self._referrers, frozenset(expired))

    def _sweep(self) -> dict[str, float]:
        """Keep, note or select each artifact; return the digests of those to delete, with the time of their change."""
        noted, to_delete = self._read_tombstones(), dict[str, float]()
        # The grace begins here: until now a step could find what refers to an artifact, and use it.
        now = self._stack.clock()
        for listed, folder in enumerate(list_artifact_folders(self._transport, self._report.strays.append)):
            if listed % _PROGRESS_INTERVAL == 0:
                self._report_listing(listed)
            digest, since = folder.digest, noted.get(folder.digest, now)
            if folder.objects and (digest in self._referrers or folder.modified > self._grace_cutoff):
                self._report.add_retained(folder.size, self._referrers.of(digest))
                # Marks of a prune that was killed.
                self._delete(folder.prune_marks, "Deleting marks")
            elif folder.manifest is None:
                self._report.leftovers.add(folder.size)
                to_delete[digest] = folder.modified
            elif not self._retention.grace or since <= self._now - self._retention.grace:
                self._report.deleted.add(folder.size)
                to_delete[digest] = folder.modified
                self._tombstones[digest] = since
            else:
                self._report.unreferenced.add(folder.size)
                self._tombstones[digest] = since
        self._write_tombstones()
        return to_delete

    def _write_tombstones(self) -> None:
        if not self._dry_run:
            text = json.dumps(self._tombstones, indent=0, sort_keys=True)
            self._transport.write(_TOMBSTONES_KEY, text.encode())

    def _read_tombstones(self) -> dict[str, float]:
        """Return the unreferenced digests, each with the time when it was first found so, in seconds since the epoch."""
        try:
            found = json.loads(self._transport.read(_TOMBSTONES_KEY))
            return {str(digest): float(since) for digest, since in found.items()}
        except (ArtifactNotFound, ValueError, AttributeError, TypeError):
            # Where the document cannot be read, the grace of all begins again.
            return {}

    def _report_listing(self, listed: int) -> None:
        report = self._report
        counts = {"kept": report.kept, "unreferenced": report.unreferenced, "to delete": report.deleted}
        note = ", ".join(f"{count.artifacts:,} {label} ({format_bytes(count.size)})" for label, count in counts.items())
        self._on_progress(Progress("Listing artifacts", listed, note=note))

    def _delete_artifacts(self, to_delete: Mapping[str, float]) -> None:
        """Delete artifacts that were not stored again since they were listed.

        A writer that stores one again sees the mark, waits until it is removed, and stores what is missing then.
        """
        holder = self._lock.record.holder
        self._wait_for_writers()
        marking = map_in_parallel(lambda digest: self._transport.write(prune_mark(digest, holder), b"1"), to_delete)
        for _ in track_items(marking, "Marking artifacts", self._on_progress, len(to_delete)):
            self._extend_lock()
        deleted = set()
        # The marks are among what is listed, and are the last to be deleted.
        marked = (folder for folder in list_artifact_folders(self._transport) if folder.digest in to_delete)
        while batch := list(islice(marked, _ARTIFACTS_PER_BATCH)):
            self._extend_lock()
            unchanged = [folder for folder in batch if folder.modified == to_delete[folder.digest]]
            # Without its manifest an artifact does not exist: no reader finds half of it.
            self._delete((folder.manifest for folder in unchanged if folder.manifest), "Making artifacts invisible")
            self._delete((each.key for folder in unchanged for each in self._count_freed(folder)), "Deleting files")
            deleted |= {folder.digest for folder in unchanged}
            marks = (folder.marks if folder.digest in deleted else folder.prune_marks for folder in batch)
            self._delete(chain.from_iterable(marks), "Deleting marks")
        self._delete(
            (key for key in self._transport.list("previews") if _digest_of(key) in deleted), "Deleting previews"
        )
        for digest in to_delete:
            self._tombstones.pop(digest, None)
        self._write_tombstones()

    def _extend_lock(self) -> None:
        if not self._lock.extend():
            raise PruneBusy("This prune was stopped for so long that its lock expires. Run it again: it continues.")

    def _count_freed(self, folder: ArtifactFolder) -> Iterator[ObjectInfo]:
        self._freed.add(folder.size)
        yield from (each for each in folder.objects if each.key != folder.manifest)

    def _delete(self, keys: Iterable[str], stage: str) -> None:
        if self._dry_run:
            return
        todo, done, total = iter(keys), 0, len(keys) if isinstance(keys, Sized) else None
        while batch := list(islice(todo, _MAX_KEYS_PER_DELETE)):
            self._transport.delete(batch)
            done += len(batch)
            freed = f"{self._freed} freed" if self._freed.artifacts else ""
            self._on_progress(Progress(stage, done, total, freed))


def _digest_of(key: str) -> str:
    """Return the digest in the key of a preview; empty for another object."""
    return "".join(key.split("/")[2:3])


def _list_pod_objects(stack: Stack, unfinished: DagRuns, before: float) -> list[str]:
    """Return the keys of specs and answers of pods, written before a time, of finished or unknown DAG runs.

    unfinished: DAG and run ids. before: seconds since the epoch.
    """
    pods = defaultdict[str, list[ObjectInfo]](list)
    for each in stack.store.transport.list_objects(_PODS):
        pods[each.key.rpartition("/")[0]].append(each)
    old = (folder for folder, objects in pods.items() if max(each.modified for each in objects) < before)
    return [each.key for folder in old if _dag_run(stack, folder) not in unfinished for each in pods[folder]]


def _list_checkpoints(transport: Transport, unfinished: DagRuns, before: float) -> list[str]:
    """Return the keys of checkpoints, written before a time, of finished or unknown DAG runs; their tasks end no more."""
    goes_on = {(quote_key_part(dag), quote_key_part(run)) for dag, run in unfinished}
    old = (each.key for each in transport.list_objects(_CHECKPOINTS) if each.modified < before)
    return [key for key in old if tuple(key.split("/")[1:3]) not in goes_on]


def _end_suspended_runs(stack: Stack, unfinished: DagRuns, before: float) -> None:
    """End as killed the runs that were suspended before a time, and whose DAG runs are finished or unknown.

    MLflow, which shows them as running, receives their records with the other undelivered ones.
    """
    for suspended in stack.records.suspended():
        run = suspended.run.id
        if suspended.run.started < before and (run.dag_id, run.run_id) not in unfinished:
            _end(stack, suspended)


def _end(stack: Stack, suspended: SuspendedRun) -> None:
    run = replace(suspended.run, state=StepState.KILLED, ended=stack.clock(), error=_ENDED)
    if not stack.records.exists(run.id):
        stack.records.put(run, delivered=not suspended.lineage)
    stack.records.delete_suspended(run.id)


def _dag_run(stack: Stack, folder: str) -> tuple[str, str]:
    """Return DAG and run id of a pod; empty where its spec cannot be read."""
    try:
        run = StepRunId.parse(json.loads(stack.store.transport.read(f"{folder}/spec.json"))["run"])
    except (ArtifactNotFound, *UNREADABLE):
        return "", ""
    return run.dag_id, run.run_id
