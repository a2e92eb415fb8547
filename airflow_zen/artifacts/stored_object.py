"""An object under the root, as a listing shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StoredObject:
    """Name one object: `size` in bytes, `modified` in seconds since the epoch."""

    key: str
    size: int
    modified: float
