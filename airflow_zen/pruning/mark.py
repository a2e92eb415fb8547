"""The mark phase of a prune: what versions, DAG runs and cache entries refer to, and the artifacts that are stored."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from airflow_zen.artifacts.manifest import MANIFEST_FILE_NAME
from airflow_zen.artifacts.version import parse_version_key
from airflow_zen.errors import ArtifactNotFound
from airflow_zen.progress import ProgressCallback, ignore_progress, track_items
from airflow_zen.runs.records import list_step_records
from airflow_zen.transports.base import ObjectInfo, Transport, map_in_parallel, quote_key_part

if TYPE_CHECKING:
    from airflow_zen.caching.step_cache import StepCache

# Names in listings and MLflow's tags hold this much of a digest: 64 bits, which no two artifacts of a root share.
_COMPACT_LENGTH = 16


@dataclass(frozen=True)
class Referrer:
    """What refers to artifacts: `kind` is `version`, `run`, `cache`, `MLflow run` or `model`, `name` which of them."""

    kind: str
    name: str


@dataclass
class ReferrerIndex:
    """The referrers of each artifact, in little memory: a number for a digest, a shared tuple for its referrers."""

    _numbers: dict[Referrer, int] = field(default_factory=dict)
    _interned_sets: dict[tuple[int, ...], tuple[int, ...]] = field(default_factory=dict)
    _referrers_by_digest: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def add(self, referrer: Referrer, digests: Iterable[str]) -> None:
        """Add what a referrer refers to; digests may be cut to their first 16 characters."""
        number = self._numbers.setdefault(referrer, len(self._numbers))
        for digest in map(_compact_digest, digests):
            known = self._referrers_by_digest.get(digest, ())
            if number not in known:
                more = tuple(sorted((*known, number)))
                self._referrers_by_digest[digest] = self._interned_sets.setdefault(more, more)

    def of(self, digest: str) -> tuple[Referrer, ...]:
        """Return all referrers of an artifact."""
        names = list(self._numbers)
        return tuple(names[number] for number in self._referrers_by_digest.get(_compact_digest(digest), ()))

    def __contains__(self, digest: str) -> bool:
        return _compact_digest(digest) in self._referrers_by_digest

    @property
    def compact_digests(self) -> Iterable[int]:
        """All digests that are referred to, as `_compact_digest` returns them."""
        return self._referrers_by_digest.keys()


@dataclass(frozen=True)
class RecentRuns:
    """The recent DAG runs of an artifact root, as DAG and run are written in keys, and the cache keys of their steps."""

    recent: frozenset[tuple[str, str]]
    cache_keys: frozenset[str]

    def is_recent(self, dag_id: str, run_id: str) -> bool:
        """Whether a DAG run is recent."""
        return (quote_key_part(dag_id), quote_key_part(run_id)) in self.recent


@dataclass(frozen=True)
class StoredArtifact:
    """The objects of one artifact; without a manifest they are the rest of an upload that did not finish."""

    digest: str
    objects: tuple[ObjectInfo, ...]

    @property
    def manifest(self) -> str | None:
        """The key of its manifest; None where it has none."""
        key = f"artifacts/{self.digest[:2]}/{self.digest}/{MANIFEST_FILE_NAME}"
        return key if any(each.key == key for each in self.objects) else None

    @property
    def size(self) -> int:
        """Bytes of all its objects."""
        return sum(each.size for each in self.objects)

    @property
    def modified(self) -> float:
        """When the latest of its objects was written, in seconds since the epoch."""
        return max(each.modified for each in self.objects)


def list_stored_artifacts(transport: Transport) -> Iterator[StoredArtifact]:
    """Yield every artifact, in the order of digests, with one page of the listing in memory."""
    for digest, objects in groupby(transport.list_objects("artifacts"), key=lambda each: each.key.split("/")[2]):
        yield StoredArtifact(digest, tuple(objects))


@dataclass
class Marker:
    """Add to `referrers` what a root's records, cache entries and versions refer to."""

    transport: Transport
    referrers: ReferrerIndex
    on_progress: ProgressCallback = ignore_progress

    def mark_runs(self, since: float | None, unfinished: Collection[tuple[str, str]]) -> RecentRuns:
        """Mark what recent DAG runs refer to: all of a run while its latest record is not older than `since`.

        `unfinished` are DAG and run ids of runs that are recent however old their records are.
        """
        records = list_step_records(self.transport)
        recent = {run for run, found in records.items() if since is None or max(o.modified for o in found) >= since}
        recent |= {(quote_key_part(dag_id), quote_key_part(run_id)) for dag_id, run_id in unfinished}
        keys = [(dag, each.key) for dag, run in sorted(recent) for each in records.get((dag, run), ())]
        cache_keys = set()
        read = map_in_parallel(lambda item: (item[0], self._read_record(item[1])), keys)
        for dag, record in track_items(read, "Reading step run records", self.on_progress, len(keys)):
            if record:
                self.referrers.add(Referrer("run", unquote(dag)), digests_of_record(record))
                cache_keys.add(record["cache_key"])
        return RecentRuns(frozenset(recent), frozenset(cache_keys - {""}))

    def mark_cache(
        self, cache: StepCache, used: Collection[str], since: float | None, lease_cutoff: float
    ) -> tuple[list[str], list[str]]:
        """Mark what live cache entries refer to; return the keys of dead entries, and of leases older than `lease_cutoff`.

        An entry is live when recent runs used its key (`used`: its outputs are marked already), or when it was not
        written before `since`.
        """
        dead, leases, young = [], [], []
        for each in self.transport.list_objects("cache"):
            name, _, kind = each.key.split("/")[2].rpartition(".")
            if each.key.startswith("cache/history/") or name in used:
                continue
            if kind == "lease":
                leases += [each.key] if each.modified < lease_cutoff else []
            elif since is None or each.modified >= since:
                young.append(name)
            else:
                dead.append(each.key)
        entries = map_in_parallel(cache.get, young)
        for entry in track_items(entries, "Reading cache entries", self.on_progress, len(young)):
            if entry:
                referrer = Referrer("cache", entry.origin.partition("/")[0])
                self.referrers.add(referrer, [ref.digest for ref in entry.outputs.values()])
        return dead, leases

    def mark_versions(self, keep_last: int, since: float | None) -> list[str]:
        """Mark what versions refer to; return the keys of those that expired.

        A version expires when it is old, not tagged, not among the newest, and nothing marked before refers to its
        content. Content that stays the same makes no new version, so a version of last year may be made every day.
        Only listings are read: a version's key contains its time and its artifact's digest.
        """
        tagged = {tuple(key.split("/")[2:4]) for key in self.transport.list("tags")}
        used = frozenset(self.referrers.compact_digests)
        expired = []
        listed = track_items(self.transport.list("names"), "Listing versions", self.on_progress)
        for name, keys in groupby(listed, key=lambda key: key.split("/")[1]):
            for newer, key in enumerate(each for each in keys if each.split("/")[2] == "versions"):
                milliseconds, digest = parse_version_key(key)
                young = since is None or milliseconds / 1000 >= since
                if young or newer < keep_last or (name, key.split("/")[3]) in tagged or _compact_digest(digest) in used:
                    self.referrers.add(Referrer("version", unquote(name)), [digest])
                else:
                    expired.append(key)
        return expired

    def _read_record(self, key: str) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads(self.transport.read(key))
        except ArtifactNotFound:
            return None
        return record


def digests_of_record(record: dict[str, Any]) -> list[str]:
    """Return the digests of the inputs and outputs of a step run record."""
    return [ref["digest"] for ref in [*record["inputs"].values(), *record["outputs"].values()]]


def _compact_digest(digest: str) -> int:
    """Return the first 16 characters of a digest as a number: 8 bytes where the text takes 113."""
    return int(digest[:_COMPACT_LENGTH], 16)
