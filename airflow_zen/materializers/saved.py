"""What is known of a value once it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class SavedValue(msgspec.Struct, frozen=True):
    """What `save` wrote: everything a manifest says beside the files themselves.

    `type` is the dotted name of the value's type, `libraries` the version of each distribution that
    wrote it, `inline` whether its files are JSON text that may live in the manifest, `hashes` the hashes of
    files that were hashed while they were written.
    """

    encoding: str
    type: str
    summary: Mapping[str, Any]
    libraries: Mapping[str, str]
    inline: bool
    hashes: Mapping[str, str] = msgspec.field(default_factory=dict)
