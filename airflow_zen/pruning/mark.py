"""The mark phase of a prune: the references of versions, DAG runs, cache entries and MLflow."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from urllib.parse import unquote

from airflow_zen.artifacts.ref import parse_version_key
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.errors import UNREADABLE, ArtifactCorrupt, ArtifactNotFound, SettingsError
from airflow_zen.lineage.mlflow.dag_runs import nested_runs, tags_to_dict
from airflow_zen.lineage.mlflow.errors import MlflowRejected
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.tags import EXPERIMENT_PREFIX
from airflow_zen.progress import ProgressCallback, ignore_progress, track_items
from airflow_zen.runs.records import list_step_records
from airflow_zen.transports.base import ObjectInfo, Transport, key_of_url, map_in_parallel, quote_key_part

# Names in listings and MLflow's tags hold this much of a digest: 64 bits, which no two artifacts of a root share.
_COMPACT_LENGTH = 16

# MLflow needs longer for more than the timeout of a request.
_VERSIONS_PER_PAGE, _MODELS_PER_PAGE, _EXPERIMENTS_PER_PAGE = 100, 50, 1000
_IO_DIGEST = re.compile(r"@([0-9a-f]{16})(?=\|)")
_MODEL_SOURCE = re.compile(r"models:/(m-[0-9a-f]+)")
_CACHE_KEY = re.compile(r"cache/[0-9a-f]{2}/([0-9a-f]{64})\.(json$|lease/)")
_ARTIFACT_URL = re.compile(r"/artifacts/[0-9a-f]{2}/([0-9a-f]{64})")
# Users set this tag on a DAG run's parent run to exclude it from expiry.
KEEP_TAG = "zen.keep"


@dataclass(frozen=True)
class Referrer:
    """An object that refers to artifacts: `kind` is `version`, `run`, `cache`, `MLflow run` or `model`."""

    kind: str
    name: str


@dataclass
class ReferrerIndex:
    """The referrers of each artifact, stored compactly: a number for each digest, a shared tuple for its referrers."""

    _numbers: dict[Referrer, int] = field(default_factory=dict)
    _interned_sets: dict[tuple[int, ...], tuple[int, ...]] = field(default_factory=dict)
    _referrers_by_digest: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def add(self, referrer: Referrer, digests: Iterable[str]) -> None:
        """Add the references of a referrer; digests may be cut to their first 16 characters."""
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
        """All referenced digests, as `_compact_digest` returns them."""
        return self._referrers_by_digest.keys()


@dataclass(frozen=True)
class RecentRuns:
    """The recent DAG runs of an artifact root, as DAG and run in keys, and the cache keys of their steps."""

    recent: frozenset[tuple[str, str]]
    cache_keys: frozenset[str]

    def is_recent(self, dag_id: str, run_id: str) -> bool:
        """Whether a DAG run is recent."""
        return (quote_key_part(dag_id), quote_key_part(run_id)) in self.recent


@dataclass(frozen=True)
class _RecordReferences:
    digests: list[str]
    cache_key: str


@dataclass
class Marker:
    """Add to `referrers` the references of a root's records, cache entries and versions.

    `on_stray` is called with the key of each object that is unreadable, or not the store's.
    """

    transport: Transport
    referrers: ReferrerIndex
    on_stray: Callable[[str], object] = lambda _: None
    on_progress: ProgressCallback = ignore_progress

    def mark_runs(self, since: float | None, unfinished: Collection[tuple[str, str]]) -> RecentRuns:
        """Mark the references of recent DAG runs: all of a run if its latest record is not older than `since`.

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
                self.referrers.add(Referrer("run", unquote(dag)), record.digests)
                cache_keys.add(record.cache_key)
        return RecentRuns(frozenset(recent), frozenset(cache_keys - {""}))

    def mark_cache(
        self, cache: StepCache, used: Collection[str], since: float | None, grace_cutoff: float
    ) -> tuple[list[str], list[str]]:
        """Mark what live cache entries refer to; return the keys of dead entries, and of leases older than `grace_cutoff`.

        An entry is live when recent runs used its key (`used`: its outputs are marked already), or when it was not
        written before `since` or `grace_cutoff`: a lease is stored in place of the entry that its holder computes.
        """
        dead: list[str] = []
        leases: list[str] = []
        young: list[tuple[str, ObjectInfo]] = []
        for each, name, is_lease in self._list_cache():
            if name in used:
                continue
            if is_lease:
                leases += [each.key] if each.modified < grace_cutoff else []
            elif since is None or each.modified >= min(since, grace_cutoff):
                young.append((name, each))
            else:
                dead.append(each.key)
        entries = map_in_parallel(lambda item: (cache.get(item[0]), item[1]), young)
        for entry, each in track_items(entries, "Reading cache entries", self.on_progress, len(young)):
            if entry:
                referrer = Referrer("cache", entry.origin.partition("/")[0])
                self.referrers.add(referrer, [ref.digest for ref in entry.outputs.values()])
            elif each.modified < grace_cutoff:
                leases.append(each.key)
        return dead, leases

    def mark_versions(self, keep_last: int, since: float | None) -> list[str]:
        """Mark the references of versions; return the keys of expired versions.

        A version expires when it is old, not tagged, not among the newest, and its content has no other reference.
        Content that stays the same makes no new version, so a version of last year may be made every day. Only listings
        are read: a version's key contains its time and its artifact's digest.
        """
        tagged = {tuple(key.split("/")[2:4]) for key in self.transport.list("tags")}
        used = frozenset(self.referrers.compact_digests)
        expired = []
        listed = track_items(self.transport.list("names"), "Listing versions", self.on_progress)
        # The published versions of a name and those in quarantine are counted apart.
        for (name, *_), keys in groupby(listed, key=lambda key: key.split("/")[1:3]):
            for newer, (key, milliseconds, digest) in enumerate(self._parse_versions(keys)):
                young = since is None or milliseconds / 1000 >= since
                if (
                    young
                    or newer < keep_last
                    or (name, key.rpartition("/")[2]) in tagged
                    or _compact_digest(digest) in used
                ):
                    self.referrers.add(Referrer("version", unquote(name)), [digest])
                else:
                    expired.append(key)
        return expired

    def _list_cache(self) -> Iterator[tuple[ObjectInfo, str, bool]]:
        """Yield each entry and lease record with its cache key, and whether it is a lease."""
        for each in self.transport.list_objects("cache"):
            if found := _CACHE_KEY.match(each.key):
                yield each, found[1], found[2] == "lease/"
            elif not each.key.startswith("cache/history/"):
                self.on_stray(each.key)

    def _parse_versions(self, keys: Iterable[str]) -> Iterator[tuple[str, int, str]]:
        """Yield the keys of versions with their time in milliseconds and the beginning of their digest."""
        for key in keys:
            try:
                milliseconds, digest = parse_version_key(key)
            except ArtifactCorrupt:
                self.on_stray(key)
            else:
                yield key, milliseconds, digest

    def _read_record(self, key: str) -> _RecordReferences | None:
        try:
            record = json.loads(self.transport.read(key))
            return _RecordReferences(digests_of_record(record), record["cache_key"])
        except ArtifactNotFound:
            return None
        except UNREADABLE:
            self.on_stray(key)
            return None


@dataclass
class MlflowReferences:
    """Find the references of MLflow, and delete old runs; methods raise `LineageError` when MLflow is unavailable."""

    rest: MlflowRest
    transport: Transport
    root: str
    on_progress: ProgressCallback = ignore_progress
    # DAG ids by the id of their experiment.
    _experiments: dict[str, str] = field(default_factory=dict)
    _versions: list[Mapping[str, Any]] = field(default_factory=list)
    _registered_models: frozenset[str] = frozenset()
    _registered_runs: frozenset[str] = frozenset()

    def load(self) -> None:
        """Find the experiments of DAGs, and the versions in the model registry."""
        search = {"filter": f"name LIKE '{EXPERIMENT_PREFIX}%'", "max_results": _EXPERIMENTS_PER_PAGE}
        found = self.rest.paginate("experiments/search", search, "experiments")
        self._experiments = {
            str(one["experiment_id"]): tags_to_dict(one).get("zen.dag_id", str(one["name"])) for one in found
        }
        page = {"max_results": _VERSIONS_PER_PAGE}
        self._versions = [*self.rest.paginate("model-versions/search", page, "model_versions", "GET")]
        self._registered_runs = frozenset(str(one.get("run_id", "")) for one in self._versions)
        self._registered_models = frozenset(map(_logged_model_id, self._versions)) - {""}

    def find_expired_runs(self, before: float, runs: RecentRuns) -> list[str]:
        """Return the runs of DAG runs that started before a time in seconds since the epoch, parents after their steps.

        Not among them are DAG runs that are recent in the store, that have not ended (another Airflow may run them),
        that have a registered model version, or that users tagged `zen.keep`.
        """
        found = []
        for experiment in self._experiments:
            began = f"attributes.start_time < {int(before * 1000)}"
            condition = f"tags.`zen.kind` = 'dag_run' AND attributes.status != 'RUNNING' AND {began}"
            for parent in self.rest.search_runs(experiment, condition):
                tags = tags_to_dict(parent["data"])
                if KEEP_TAG in tags or runs.is_recent(tags["zen.dag_id"], tags["zen.run_id"]):
                    continue
                parent_id = str(parent["info"]["run_id"])
                steps = nested_runs(self.rest, experiment, parent_id)
                run_ids = [*(str(step["info"]["run_id"]) for step in steps), parent_id]
                if self._registered_runs.isdisjoint(run_ids):
                    found += run_ids
        return found

    def delete_runs(self, run_ids: list[str]) -> None:
        """Move runs, and the models that they made, to MLflow's trash."""
        for run_id in track_items(run_ids, "Deleting runs in MLflow", self.on_progress, len(run_ids)):
            self.rest.post("runs/delete", {"run_id": run_id})
        gone = set(run_ids)
        for experiment in self._experiments:
            for model in self._search_models(experiment):
                if model.get("source_run_id") in gone and model["model_id"] not in self._registered_models:
                    self.rest.request("DELETE", f"logged-models/{model['model_id']}")

    def mark(self, referrers: ReferrerIndex, excluded_runs: frozenset[str]) -> None:
        """Mark what MLflow refers to, without the runs `excluded_runs`."""
        listed = set()
        for experiment, dag_id in self._experiments.items():
            steps = self.rest.search_runs(experiment, "tags.`zen.kind` = 'step'")
            for run in track_items(steps, f"Asking MLflow for step runs of {dag_id}", self.on_progress):
                if str(run["info"]["run_id"]) not in excluded_runs:
                    referrers.add(Referrer("MLflow run", dag_id), self._digests(run))
            models = self._search_models(experiment)
            for model in track_items(models, f"Asking MLflow for models of {dag_id}", self.on_progress):
                listed.add(model["model_id"])
                registered = model["model_id"] in self._registered_models
                digest = tags_to_dict(model).get("zen.digest")
                if digest and (registered or model.get("source_run_id") not in excluded_runs):
                    referrers.add(Referrer("model", str(model.get("name", dag_id))), [digest])
        self._mark_registered(referrers, listed)

    def _mark_registered(self, referrers: ReferrerIndex, listed: Collection[str]) -> None:
        """Mark the sources of registered versions, from the store itself or through a logged model deleted since."""
        for version in track_items(
            self._versions, "Reading registered versions", self.on_progress, len(self._versions)
        ):
            referrer = Referrer("model", str(version["name"]))
            referrers.add(referrer, _ARTIFACT_URL.findall(str(version.get("source", ""))))
            model = _logged_model_id(version)
            if version.get("run_id") and model and model not in listed:
                referrers.add(referrer, self._digests_of_run(str(version["run_id"])))

    def _digests_of_run(self, run_id: str) -> list[str]:
        """Return the digests of one run; none if MLflow has deleted it permanently."""
        try:
            return self._digests(self.rest.get("runs/get", {"run_id": run_id})["run"])
        except MlflowRejected as error:
            if not error.is_missing:
                raise
            return []

    def _digests(self, run: Mapping[str, Any]) -> list[str]:
        tags = tags_to_dict(run["data"])
        digests: list[str] = _IO_DIGEST.findall(tags.get("zen.inputs", "") + tags.get("zen.outputs", ""))
        if tags.get("zen.io_truncated"):
            # The step's record has those that the tags do not hold.
            with suppress(ArtifactNotFound, SettingsError):
                key = key_of_url(self.root, tags.get("zen.record", ""))
                digests += digests_of_record(json.loads(self.transport.read(key)))
        return digests

    def _search_models(self, experiment: str) -> Iterator[Mapping[str, Any]]:
        request = {"experiment_ids": [experiment], "max_results": _MODELS_PER_PAGE}
        for model in self.rest.paginate("logged-models/search", request, "models"):
            yield model["info"]


def _logged_model_id(version: Mapping[str, Any]) -> str:
    """Return the id of the logged model of a registered version; empty if the version has another source."""
    found = _MODEL_SOURCE.match(str(version.get("source", "")))
    return found[1] if found else ""


def digests_of_record(record: Mapping[str, Any]) -> list[str]:
    """Return the digests of the inputs and outputs of a step run record."""
    return [ref["digest"] for ref in [*record["inputs"].values(), *record["outputs"].values()]]


def _compact_digest(digest: str) -> int:
    """Return the first 16 characters of a digest as a number, which needs 8 bytes; the text needs 113."""
    return int(digest[:_COMPACT_LENGTH], 16)
