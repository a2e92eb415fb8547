"""The story of a prune: mark what is held, let go what expired, condemn what nobody holds, delete what stayed so."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sized
from itertools import islice

from airflow_zen.artifacts.transport import Transport
from airflow_zen.errors import PruneBusy
from airflow_zen.lineage.mlflow import MlflowRecorder
from airflow_zen.lineage.quantities import bytes_text
from airflow_zen.lineage.turn import turn
from airflow_zen.progress import Progress, Tell, unheard
from airflow_zen.pruning.cache_entries import mark_cache
from airflow_zen.pruning.condemned import read_condemned, write_condemned
from airflow_zen.pruning.holders import Holders
from airflow_zen.pruning.mlflow_runs import MlflowHoldings
from airflow_zen.pruning.report import PruneReport, Tally
from airflow_zen.pruning.retention import Retention
from airflow_zen.pruning.runs import Runs, mark_runs
from airflow_zen.pruning.stored import StoredArtifact, stored_artifacts
from airflow_zen.pruning.versions import mark_versions
from airflow_zen.stack import Stack

_TURN = "prune/turn.json"
# What one request to S3 deletes.
_BATCH = 1000
# Artifacts that are listed between two words about it.
_TOLD = 20


def prune(
    stack: Stack,
    retention: Retention,
    unfinished: Collection[tuple[str, str]] = (),
    *,
    dry_run: bool = False,
    tell: Tell = unheard,
) -> PruneReport:
    """Free the artifact root of what nobody refers to; say what was found and done.

    `unfinished` are DAG and run ids that Airflow has not finished. An artifact is deleted when an earlier prune
    condemned it, `retention.grace` ago or longer, and still nobody holds it; with no grace, at once. Stopped at any
    moment and run again it goes on where it was. `tell` hears how far it is. Raises `PruneBusy` while another one is at it, `LineageError` when
    MLflow, which may hold artifacts, is away.
    """
    with turn(stack.store.transport, _TURN, stack.clock) as mine:
        if not mine:
            raise PruneBusy("Another prune of this artifact root is running. Wait for it, at most 15 minutes.")
        return _Prune(stack, retention, dry_run, tell).run(unfinished)


class _Prune:
    def __init__(self, stack: Stack, retention: Retention, dry_run: bool, tell: Tell) -> None:
        self._stack = stack
        self._transport: Transport = stack.store.transport
        self._retention = retention
        self._dry = dry_run
        self._tell = tell
        self._now = stack.clock()
        self._holders = Holders()
        self._report = PruneReport(dry_run, retention.grace)
        self._freed = Tally()

    def run(self, unfinished: Collection[tuple[str, str]]) -> PruneReport:
        since, young = self._retention.since(self._now), self._retention.versions_since(self._now)
        runs = mark_runs(self._transport, self._holders, since, unfinished, self._tell)
        entries, leases = mark_cache(self._stack.cache, self._holders, runs.cache_keys, since, self._cutoff, self._tell)
        self._mark_mlflow(since, runs)
        versions = mark_versions(self._transport, self._holders, self._retention.newest, young, self._tell)
        self._report.versions, self._report.cache_entries = len(versions), len(entries)
        # What leads to an artifact goes before it does.
        self._delete([*versions, *entries, *leases], "Deleting versions and cache entries")
        doomed = self._judge()
        self._delete_rest(doomed)
        return self._report

    @property
    def _cutoff(self) -> float:
        """What was written later than this stays, whoever refers to it."""
        return self._now - self._retention.grace if self._retention.grace else math.inf

    def _mark_mlflow(self, since: float | None, runs: Runs) -> None:
        recorder = self._stack.lineage
        if not isinstance(recorder, MlflowRecorder):
            return
        holdings = MlflowHoldings(recorder.rest, self._transport, self._stack.store.root, self._tell)
        holdings.look()
        expired = holdings.expired(since, runs) if self._retention.expire_mlflow_runs and since is not None else []
        self._report.mlflow_runs = len(expired)
        if not self._dry:
            holdings.delete(expired)
        holdings.mark(self._holders, frozenset(expired))

    def _judge(self) -> set[str]:
        """Look at every artifact once; make those invisible that go, and give them."""
        before, condemned = read_condemned(self._transport), {}
        doomed: dict[str, str | None] = {}
        for artifact in stored_artifacts(self._transport):
            self._tell_judged()
            if artifact.digest in self._holders or artifact.modified > self._cutoff:
                self._report.keep(artifact.size, self._holders.of(artifact.digest))
            elif artifact.manifest is None:
                self._report.leftovers.add(artifact.size)
                doomed[artifact.digest] = None
            elif before.get(artifact.digest, self._now) <= self._now - self._retention.grace:
                self._report.deleted.add(artifact.size)
                doomed[artifact.digest] = artifact.manifest
                condemned[artifact.digest] = before.get(artifact.digest, self._now)
            else:
                self._report.condemned.add(artifact.size)
                condemned[artifact.digest] = before.get(artifact.digest, self._now)
        if not self._dry:
            write_condemned(self._transport, condemned)
        # Without its manifest an artifact is none: no reader finds half of it.
        self._delete([manifest for manifest in doomed.values() if manifest], "Making artifacts invisible")
        return set(doomed)

    def _tell_judged(self) -> None:
        report = self._report
        tallies = {"kept": report.kept, "condemned": report.condemned, "to delete": report.deleted}
        listed = sum(tally.artifacts for tally in tallies.values()) + report.leftovers.artifacts
        if listed % _TOLD == 0:
            note = ", ".join(
                f"{tally.artifacts:,} {what} ({bytes_text(tally.size)})" for what, tally in tallies.items()
            )
            self._tell(Progress("Listing artifacts", listed, note=note))

    def _delete_rest(self, doomed: set[str]) -> None:
        """Delete the files of what is no artifact any more; what a step stored again in the meantime stays."""
        if doomed and not self._dry:
            self._delete((key for artifact in self._gone(doomed) for key in artifact.keys), "Deleting files")
            previews = self._transport.list("previews")
            self._delete((key for key in previews if key.split("/")[2] in doomed), "Deleting previews")

    def _gone(self, doomed: set[str]) -> Iterator[StoredArtifact]:
        for artifact in stored_artifacts(self._transport):
            if artifact.digest in doomed and artifact.manifest is None and artifact.modified <= self._cutoff:
                self._freed.add(artifact.size)
                yield artifact

    def _delete(self, keys: Iterable[str], stage: str) -> None:
        if self._dry:
            return
        todo, done, total = iter(keys), 0, len(keys) if isinstance(keys, Sized) else None
        while some := list(islice(todo, _BATCH)):
            self._transport.delete(some)
            done += len(some)
            freed = f"{self._freed} freed" if self._freed.artifacts else ""
            self._tell(Progress(stage, done, total, freed))
