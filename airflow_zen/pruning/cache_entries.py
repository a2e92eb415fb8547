"""What the step cache holds: the outputs of entries that are young, or were used not long ago."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from airflow_zen.caching.cache import StepCache
from airflow_zen.progress import ProgressCallback, ignore_progress, track_items
from airflow_zen.pruning.holders import Referrer, ReferrerIndex

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
