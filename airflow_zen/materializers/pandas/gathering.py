"""The parts of a table, one after the other, gathered into the columns of one frame."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import types

from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.arrow.parquet import MOST_ROWS_IN_A_GROUP
from airflow_zen.materializers.pandas.columns import restore
from airflow_zen.materializers.pandas.stored import Note, one_array

# pandas 3 never copies here, and warns of the option.
_UNCOPIED: dict[str, Any] = {} if int(pd.__version__.partition(".")[0]) >= 3 else {"copy": False}


class Gathered:
    """Copy each part to its place in a frame made beforehand.

    So a frame needs one row group beside itself: a table that is converted as a whole is in memory twice. Neighbours
    of one NumPy dtype share an array. A column that has none keeps its Arrow pieces until it is taken.
    """

    def __init__(self, schema: pa.Schema, rows: int, apart: Collection[str]) -> None:
        """Make room for `rows`; the columns named in `apart` are more than their Arrow type says."""
        self.rows = rows
        self._filled = 0
        dtypes = {field.name: "" if field.name in apart else _array_dtype(field.type) for field in schema}
        runs = [(dtype, tuple(names)) for dtype, names in groupby(dtypes, dtypes.__getitem__)]
        self._runs = [_Block(names, np.empty((len(names), rows), dtype)) if dtype else names for dtype, names in runs]
        self._blocks = [run for run in self._runs if isinstance(run, _Block)]
        self._types = {field.name: field.type for field in schema if not dtypes[field.name]}
        self._pieces: dict[str, list[pa.Array]] = {name: [] for name in self._types}

    def add(self, parts: Iterable[pa.Table]) -> Gathered:
        """Take the rows below one another."""
        for part in parts:
            for block in self._blocks:
                block.fill(part, self._filled)
            for name, pieces in self._pieces.items():
                pieces.extend(part[name].chunks)
            self._filled += part.num_rows
        return self

    def take(self, name: str) -> pa.ChunkedArray:
        """Hand over a column that has no array, which then is no column of the frame."""
        pieces = self._pieces.pop(name)
        # Dictionaries are read with an index type of parquet's own, so the pieces know better than the schema.
        return pa.chunked_array(pieces, pieces[0].type if pieces else self._types[name])

    def frame(self, notes: Mapping[str, Note]) -> pd.DataFrame:
        """Make the frame of what was not taken; `notes` say what the columns apart become."""
        parts = [run.frame() if isinstance(run, _Block) else self._others(run, notes) for run in self._runs]
        whole = [part for part in parts if part.shape[1]]
        if not whole:
            return pd.DataFrame(index=pd.RangeIndex(self.rows))
        return whole[0] if len(whole) == 1 else pd.concat(whole, axis=1, **_UNCOPIED)

    def _others(self, names: Iterable[str], notes: Mapping[str, Note]) -> pd.DataFrame:
        columns = {name: self._series(name, notes.get(name)) for name in names if name in self._pieces}
        return pd.DataFrame(columns, index=pd.RangeIndex(self.rows), copy=False)

    def _series(self, name: str, note: Note | None) -> pd.Series:
        # As an argument a column is nobody's but the conversion's, and gone after it.
        values = restore(one_array(self.take(name)) if note else self.take(name), note or {})
        if self.rows > MOST_ROWS_IN_A_GROUP:
            # Arrow would keep what is gone for columns of its own, and none are coming.
            pa.default_memory_pool().release_unused()
        series: pd.Series = pd.Series(values, dtype=values.dtype, copy=False)
        return series


@dataclass(frozen=True)
class _Block:
    """Some columns of one dtype, as the rows of one array."""

    names: tuple[str, ...]
    values: np.ndarray[Any, Any]

    def fill(self, part: pa.Table, at: int) -> None:
        for name, row in zip(self.names, self.values, strict=True):
            to = at
            for piece in part[name].chunks:
                _check_nulls(name, piece)
                row[to : to + len(piece)] = piece.to_numpy(zero_copy_only=False)
                to += len(piece)

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.values.T, columns=list(self.names), copy=False)


def _array_dtype(kind: pa.DataType) -> str:
    """Name the dtype of a column that `store_numpy` wrote without a note; `""` for any other."""
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return str(np.dtype(kind.to_pandas_dtype()))
    if types.is_duration(kind) or (types.is_timestamp(kind) and kind.tz is None):
        return f"{'m' if types.is_duration(kind) else 'M'}8[{kind.unit}]"
    return ""


def _check_nulls(name: str, piece: pa.Array) -> None:
    if piece.null_count and (types.is_integer(piece.type) or types.is_boolean(piece.type)):
        raise ArtifactRefused(
            f"Column {name!r} of {piece.type} has nulls and no note that says what they are, so pandas did not write it. "
            "Read it as a pyarrow.Table."
        )
