"""What the step cache holds: the outputs of entries that are young, or were used not long ago."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from airflow_zen.caching.cache import StepCache
from airflow_zen.progress import Tell, counted, unheard
from airflow_zen.pruning.holders import Holder, Holders

_ROOT = "cache"
_HISTORY = f"{_ROOT}/history/"
_READERS = 16


def mark_cache(
    cache: StepCache,
    holders: Holders,
    used: Collection[str],
    since: float | None,
    lost: float,
    tell: Tell = unheard,
) -> tuple[list[str], list[str]]:
    """Note what live entries hold; give the keys of dead entries, and of leases that nobody has kept alive since `lost`.

    An entry lives when recent runs used its key (`used`: these hold its outputs already), or when it was written not
    before `since`.
    """
    dead, leases, young = [], [], []
    for each in cache.transport.scan(_ROOT):
        name, _, kind = each.key.split("/")[2].rpartition(".")
        if each.key.startswith(_HISTORY) or name in used:
            continue
        if kind == "lease":
            leases += [each.key] if each.modified < lost else []
        elif since is None or each.modified >= since:
            young.append(name)
        else:
            dead.append(each.key)
    with ThreadPoolExecutor(_READERS) as pool:
        for entry in counted(pool.map(cache.get, young), "Reading cache entries", tell, len(young)):
            if entry:
                holder = Holder("cache", entry.origin.partition("/")[0])
                holders.add(holder, [ref.digest for ref in entry.outputs.values()])
    return dead, leases
