"""The parts of a table, one after the other, gathered into the columns of one frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_zen.materializers.arrow.parquet import MOST_ROWS_IN_A_GROUP
from airflow_zen.materializers.arrow.stored import Rows
from airflow_zen.materializers.pandas.plain import numbers, numpy_dtype, plain_room
from airflow_zen.materializers.pandas.rooms import Room

# pandas 3 never copies here, and warns of the option.
_UNCOPIED: dict[str, Any] = {} if int(pd.__version__.partition(".")[0]) >= 3 else {"copy": False}


class Gathered:
    """Bring each part to its place in a frame made beforehand.

    So a frame needs one row group beside itself: a table that is converted as a whole is in memory twice. Neighbours
    of one NumPy dtype share an array.
    """

    def __init__(self, schema: pa.Schema, rows: int, rooms: Mapping[str, Room]) -> None:
        """Make room for `rows`; `rooms` are those of columns that are more than their Arrow type says."""
        self.rows = rows
        dtypes = {field.name: "" if field.name in rooms else numpy_dtype(field.type) for field in schema}
        runs = [(dtype, tuple(names)) for dtype, names in groupby(dtypes, dtypes.__getitem__)]
        self._runs = [_Block(names, np.empty((len(names), rows), dtype)) if dtype else names for dtype, names in runs]
        self._blocks = [run for run in self._runs if isinstance(run, _Block)]
        apart = [field for field in schema if not dtypes[field.name]]
        self._rooms = {field.name: rooms.get(field.name) or plain_room(field.type, rows) for field in apart}

    @property
    def places(self) -> dict[str, np.ndarray[Any, Any]]:
        """Give the arrays of columns whose values may be copied there by whoever reads them."""
        return {name: row for block in self._blocks for name, row in zip(block.names, block.values, strict=True)}

    def add(self, parts: Iterable[Rows]) -> Gathered:
        """Take what was not copied to its place already; the rows come in order."""
        for part in parts:
            for block in self._blocks:
                block.fill(part)
            for name, room in self._rooms.items():
                for at, piece in _placed(part.others[name], part.at):
                    room.fill(piece, at)
            # Let go of before the next is read, which takes its place in memory.
            del part
        if self.rows > MOST_ROWS_IN_A_GROUP:
            # Arrow would keep what is gone for row groups of its own, and none are coming.
            pa.default_memory_pool().release_unused()
        return self

    def take(self, name: str) -> Any:
        """Hand over the values of a column that had a room, which then is no column of the frame."""
        return self._rooms.pop(name).values()

    def frame(self) -> pd.DataFrame:
        """Make the frame of what was not taken."""
        parts = [run.frame() if isinstance(run, _Block) else self._others(run) for run in self._runs]
        whole = [part for part in parts if part.shape[1]]
        if not whole:
            return pd.DataFrame(index=pd.RangeIndex(self.rows))
        return whole[0] if len(whole) == 1 else pd.concat(whole, axis=1, **_UNCOPIED)

    def _others(self, names: Iterable[str]) -> pd.DataFrame:
        columns = {name: _series(self.take(name)) for name in names if name in self._rooms}
        return pd.DataFrame(columns, index=pd.RangeIndex(self.rows), copy=False)


@dataclass(frozen=True)
class _Block:
    """Some columns of one dtype, as the rows of one array."""

    names: tuple[str, ...]
    values: np.ndarray[Any, Any]

    def fill(self, part: Rows) -> None:
        for name, row in zip(self.names, self.values, strict=True):
            for to, piece in () if name in part.copied else _placed(part.others[name], part.at):
                row[to : to + len(piece)] = numbers(piece, f"Column {name!r}")

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.values.T, columns=list(self.names), copy=False)


def _placed(column: pa.ChunkedArray, at: int) -> Iterator[tuple[int, pa.Array]]:
    for piece in column.chunks:
        yield at, piece
        at += len(piece)


def _series(values: Any) -> pd.Series:
    series: pd.Series = pd.Series(values, dtype=values.dtype, copy=False)
    return series
