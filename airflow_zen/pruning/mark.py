"""What the step cache holds: the outputs of entries that are young, or were used not long ago."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import TYPE_CHECKING
from urllib.parse import unquote

from airflow_zen.artifacts.manifest import MANIFEST_FILE_NAME
from airflow_zen.artifacts.version import parse_version_key
from airflow_zen.errors import ArtifactNotFound
from airflow_zen.progress import ProgressCallback, ignore_progress, track_items
from airflow_zen.transports.base import ObjectInfo, Transport, quote_key_part

if TYPE_CHECKING:
    from airflow_zen.caching.step_cache import StepCache

_CACHE_PREFIX = "cache"
_HISTORY_PREFIX = f"{_CACHE_PREFIX}/history/"
_ENTRY_READERS = 16


def mark_cache(
    cache: StepCache,
    referrers: ReferrerIndex,
    used: Collection[str],
    since: float | None,
    lease_cutoff: float,
    on_progress: ProgressCallback = ignore_progress,
) -> tuple[list[str], list[str]]:
    """Note what live entries hold; give the keys of dead entries, and of leases that nobody has kept alive since `lost`.

    An entry lives when recent runs used its key (`used`: these hold its outputs already), or when it was written not
    before `since`.
    """
    dead, leases, young = [], [], []
    for each in cache.transport.list_objects(_CACHE_PREFIX):
        name, _, kind = each.key.split("/")[2].rpartition(".")
        if each.key.startswith(_HISTORY_PREFIX) or name in used:
            continue
        if kind == "lease":
            leases += [each.key] if each.modified < lease_cutoff else []
        elif since is None or each.modified >= since:
            young.append(name)
        else:
            dead.append(each.key)
    with ThreadPoolExecutor(_ENTRY_READERS) as pool:
        for entry in track_items(pool.map(cache.get, young), "Reading cache entries", on_progress, len(young)):
            if entry:
                referrer = Referrer("cache", entry.origin.partition("/")[0])
                referrers.add(referrer, [ref.digest for ref in entry.outputs.values()])
    return dead, leases


_RUNS_PREFIX = "runs"
_RECORD_READERS = 16


@dataclass(frozen=True)
class RecentRuns:
    """The DAG runs of an artifact root; parts of keys, as `folder` writes names.

    `recent` ones hold what they read and made, `cache_keys` are those that their steps looked up or made.
    """

    recent: frozenset[tuple[str, str]]
    cache_keys: frozenset[str]

    def is_recent(self, dag_id: str, run_id: str) -> bool:
        """Tell whether a DAG run is among the recent ones."""
        return (quote_key_part(dag_id), quote_key_part(run_id)) in self.recent


def mark_runs(
    transport: Transport,
    referrers: ReferrerIndex,
    since: float | None,
    unfinished: Collection[tuple[str, str]],
    on_progress: ProgressCallback = ignore_progress,
) -> RecentRuns:
    """Note what recent DAG runs hold: all of a run as long as its latest record is not older than `since`.

    `unfinished` are DAG and run ids that count as recent whatever the age of their records.
    """
    keys: dict[tuple[str, str], list[str]] = defaultdict(list)
    latest: dict[tuple[str, str], float] = defaultdict(float)
    for each in transport.list_objects(_RUNS_PREFIX):
        _, dag, run, *rest = each.key.split("/")
        if rest[0] == "steps":
            keys[dag, run].append(each.key)
            latest[dag, run] = max(latest[dag, run], each.modified)
    running = {(quote_key_part(dag_id), quote_key_part(run_id)) for dag_id, run_id in unfinished}
    recent = {run for run in keys if since is None or latest[run] >= since} | running
    cache_keys = set()
    records = [(run[0], key) for run in sorted(recent) for key in keys[run]]
    read = track_items(_read_records(transport, records), "Reading step run records", on_progress, len(records))
    for dag, cache_key, digests in read:
        referrers.add(Referrer("run", unquote(dag)), digests)
        cache_keys.add(cache_key)
    return RecentRuns(frozenset(recent), frozenset(cache_keys - {""}))


def _read_records(transport: Transport, keys: list[tuple[str, str]]) -> Iterator[tuple[str, str, list[str]]]:
    """Read the records: DAG, cache key, and the digests of inputs and outputs."""

    def read(dag_and_key: tuple[str, str]) -> tuple[str, str, list[str]]:
        dag, key = dag_and_key
        try:
            record = json.loads(transport.read(key))
        except ArtifactNotFound:
            return dag, "", []
        refs = chain(record["inputs"].values(), record["outputs"].values())
        return dag, record["cache_key"], [ref["digest"] for ref in refs]

    with ThreadPoolExecutor(_RECORD_READERS) as pool:
        yield from pool.map(read, keys)


_NAMES_PREFIX, _TAGS_PREFIX = "names", "tags"


def mark_versions(
    transport: Transport,
    referrers: ReferrerIndex,
    keep_last: int,
    since: float | None,
    on_progress: ProgressCallback = ignore_progress,
) -> list[str]:
    """Note what versions hold; give the keys of those that expired.

    These are old, not tagged, not among the newest, and of content that nobody else holds so far: content that stays
    the same makes no new version, so the one of last year may be what is made every day. Only listings are read: a
    version's key tells its time and its artifact.
    """
    used = frozenset(referrers.compact_digests)
    tagged = {tuple(key.split("/")[2:4]) for key in transport.list(_TAGS_PREFIX)}
    expired = []
    listed = track_items(transport.list(_NAMES_PREFIX), "Listing versions", on_progress)
    for name, keys in groupby(listed, key=lambda key: key.split("/")[1]):
        for newer, key in enumerate(each for each in keys if each.split("/")[2] == "versions"):
            milliseconds, digest = parse_version_key(key)
            young = since is None or milliseconds / 1000 >= since
            if young or newer < keep_last or (name, key.split("/")[3]) in tagged or compact_digest(digest) in used:
                referrers.add(Referrer("version", unquote(name)), [digest])
            else:
                expired.append(key)
    return expired


_ARTIFACTS_PREFIX = "artifacts"


@dataclass(frozen=True)
class StoredArtifact:
    """The objects of one artifact; without a manifest it is what an upload left that never ended."""

    digest: str
    objects: tuple[ObjectInfo, ...]

    @property
    def manifest(self) -> str | None:
        """The key of its manifest; None where it has none."""
        key = f"{_ARTIFACTS_PREFIX}/{self.digest[:2]}/{self.digest}/{MANIFEST_FILE_NAME}"
        return key if any(each.key == key for each in self.objects) else None

    @property
    def keys(self) -> list[str]:
        """The keys of all its objects."""
        return [each.key for each in self.objects]

    @property
    def size(self) -> int:
        """Bytes of all its objects."""
        return sum(each.size for each in self.objects)

    @property
    def modified(self) -> float:
        """When the latest of its objects was written, in seconds since the epoch."""
        return max(each.modified for each in self.objects)


def list_stored_artifacts(transport: Transport) -> Iterator[StoredArtifact]:
    """Give every artifact, in the order of digests, with one page of the listing in memory."""
    for digest, objects in groupby(transport.list_objects(_ARTIFACTS_PREFIX), key=lambda each: each.key.split("/")[2]):
        yield StoredArtifact(digest, tuple(objects))


# Names in listings and MLflow's tags carry this much of a digest: 64 bits, which no two artifacts of a root share.
_COMPACT_LENGTH = 16


@dataclass(frozen=True)
class Referrer:
    """Who holds: `kind` is `version`, `run`, `cache`, `MLflow run` or `model`, `name` whose."""

    kind: str
    name: str


@dataclass
class ReferrerIndex:
    """Collect for each artifact who holds it, in little memory: a number for a digest, a shared tuple for its holders."""

    _numbers: dict[Referrer, int] = field(default_factory=dict)
    _interned_sets: dict[tuple[int, ...], tuple[int, ...]] = field(default_factory=dict)
    _referrers_by_digest: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def add(self, referrer: Referrer, digests: Iterable[str]) -> None:
        """Note that `holder` holds these; digests may be cut to their first 16 characters."""
        number = self._numbers.setdefault(referrer, len(self._numbers))
        for digest in map(compact_digest, digests):
            held = self._referrers_by_digest.get(digest, ())
            if number not in held:
                more = tuple(sorted((*held, number)))
                self._referrers_by_digest[digest] = self._interned_sets.setdefault(more, more)

    def of(self, digest: str) -> tuple[Referrer, ...]:
        """Name all holders of an artifact."""
        held = self._referrers_by_digest.get(compact_digest(digest), ())
        names = list(self._numbers)
        return tuple(names[number] for number in held)

    def __contains__(self, digest: str) -> bool:
        return compact_digest(digest) in self._referrers_by_digest

    @property
    def compact_digests(self) -> Iterable[int]:
        """Give what is held so far, each digest as `short` writes it."""
        return self._referrers_by_digest.keys()


def compact_digest(digest: str) -> int:
    """Write the first 16 characters of a digest as a number: 8 bytes where the text takes 113."""
    return int(digest[:_COMPACT_LENGTH], 16)
