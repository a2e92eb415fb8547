"""What a column becomes on its way to a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from airflow_zen.errors import SaveRefused

PandasMetadata = Mapping[str, Any]


@dataclass(frozen=True)
class ArrowColumn:
    """Values, what makes an Arrow array of some of them, and what its type does not say: nothing in the usual case.

    A frame is converted a few rows at a time, so that it is in memory once. What is noted holds for all rows.
    """

    values: Any
    to_arrow: Callable[[Any], pa.Array]
    metadata: PandasMetadata = field(default_factory=dict)

    @property
    def array(self) -> pa.Array:
        """Convert all values."""
        return self.convert_rows(0, len(self.values))

    @property
    def type(self) -> pa.DataType:
        """Give the type that every part has."""
        return self.convert_rows(0, 0).type

    def convert_rows(self, at: int, rows: int) -> pa.Array:
        """Convert the values of some rows; raises `SaveRefused` for one that Arrow has not."""
        try:
            return self.to_arrow(self.values[at : at + rows])
        except (pa.ArrowException, UnicodeEncodeError) as error:
            raise SaveRefused(f"A column of dtype {self.values.dtype} does not fit into Arrow: {error}") from error


def to_single_array(array: Any) -> pa.Array:
    """Give the one array of a chunked one; joining copies, so a single chunk is taken as it is."""
    if not isinstance(array, pa.ChunkedArray):
        return array
    return array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()
