"""The step cache: from a cache key to the refs that the same work gave before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.artifacts.transport import Transport
from airflow_zen.caching.flight import LeaseStore
from airflow_zen.caching.history import KeyHistory
from airflow_zen.errors import ArtifactNotFound, ArtifactRefused

FORMAT_VERSION = 1


class CacheEntry(msgspec.Struct, frozen=True):
    """Remember one finished step: its outputs, who made them, and why the key is what it is.

    `outputs` are refs by output name, `origin` the step run that made them, `seconds` how long the work took, `created` seconds since
    the epoch, `ingredients` every labelled fingerprint folded into `key`.
    """

    key: str
    outputs: Mapping[str, ArtifactRef]
    origin: str
    seconds: float
    created: float
    ingredients: Mapping[str, str] = msgspec.field(default_factory=dict)

    def to_json(self) -> bytes:
        """Write the entry as one JSON document."""
        document = {
            "airflow_zen": FORMAT_VERSION,
            "key": self.key,
            "origin": self.origin,
            "seconds": self.seconds,
            "created": self.created,
            "outputs": {name: ref.to_wire() for name, ref in self.outputs.items()},
            "ingredients": dict(self.ingredients),
        }
        return json.dumps(document, indent=1).encode()

    @classmethod
    def from_json(cls, text: bytes) -> CacheEntry:
        """Read an entry back; raises `ValueError` or `ArtifactRefused` when it cannot be used."""
        document: dict[str, Any] = json.loads(text)
        if document.get("airflow_zen") != FORMAT_VERSION:
            raise ValueError(f"cache entry of format {document.get('airflow_zen')!r}")
        return cls(
            key=document["key"],
            outputs={name: ArtifactRef.from_wire(wire) for name, wire in document["outputs"].items()},
            origin=document["origin"],
            seconds=document["seconds"],
            created=document["created"],
            ingredients=document["ingredients"],
        )


class StepCache:
    """Look up and remember finished steps under `cache/` of the artifact root.

    `history` knows each task's latest keys, to explain a miss; `leases` lets one of equal steps compute.
    """

    def __init__(self, transport: Transport, leases: LeaseStore | None = None) -> None:
        self.transport = transport
        self.history = KeyHistory(transport)
        self.leases = leases or LeaseStore(transport)

    def get(self, key: str) -> CacheEntry | None:
        """Find the entry of a key with one request; an entry that cannot be read is none."""
        try:
            entry = CacheEntry.from_json(self.transport.read(_entry_key(key)))
        except (ArtifactNotFound, ArtifactRefused, ValueError, KeyError, TypeError, AttributeError):
            return None
        return entry if entry.key == key else None

    def put(self, entry: CacheEntry) -> None:
        """Remember a finished step; the same key again is replaced by the newer."""
        self.transport.write(_entry_key(entry.key), entry.to_json())


def _entry_key(key: str) -> str:
    return f"cache/{key[:2]}/{key}.json"
