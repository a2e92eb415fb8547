"""What versions of named artifacts hold: the tagged, the newest of each name, the young, and those still in use."""

from __future__ import annotations

from itertools import groupby
from urllib.parse import unquote

from airflow_zen.artifacts.transport import Transport
from airflow_zen.artifacts.version import parse_version_key
from airflow_zen.progress import ProgressCallback, ignore_progress, track_items
from airflow_zen.pruning.holders import Referrer, ReferrerIndex, compact_digest

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
