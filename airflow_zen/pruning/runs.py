"""What step run records hold: the inputs and outputs of recent DAG runs, and the cache keys they used."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from urllib.parse import unquote

from airflow_zen.artifacts.root import quote_key_part
from airflow_zen.artifacts.transport import Transport
from airflow_zen.errors import ArtifactNotFound
from airflow_zen.progress import ProgressCallback, ignore_progress, track_items
from airflow_zen.pruning.holders import Referrer, ReferrerIndex

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
