"""What a column becomes on its way to a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

Note = Mapping[str, Any]


@dataclass(frozen=True)
class Stored:
    """An Arrow array, and what its type does not say about the column; an empty note in the usual case."""

    array: pa.Array
    note: Note = field(default_factory=dict)


def one_array(array: Any) -> pa.Array:
    """Give the one array of a chunked one."""
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
