"""What nobody refers to, and since when that is known."""

from __future__ import annotations

import json
from collections.abc import Mapping

from airflow_zen.artifacts.transport import Transport
from airflow_zen.errors import ArtifactNotFound

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
