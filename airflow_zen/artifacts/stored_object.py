"""An object under the root, as a listing shows it."""

from __future__ import annotations

import msgspec


class ObjectInfo(msgspec.Struct, frozen=True):
    """Name one object: `size` in bytes, `modified` in seconds since the epoch."""

    key: str
    size: int
    modified: float
