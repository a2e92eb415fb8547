"""Object columns: plain Arrow where every value is of one exact type, typed JSON for each cell elsewhere."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.arrow.parquet import MOST_ROWS_IN_A_GROUP
from airflow_zen.materializers.pandas.rooms import ArrayRoom, Room
from airflow_zen.materializers.pandas.stored import Note, Stored
from airflow_zen.materializers.registry import MaterializerRegistry
from airflow_zen.materializers.tree.codec import TAG
from airflow_zen.materializers.tree.decoder import Decoder
from airflow_zen.materializers.tree.encoder import Encoder, canonical
from airflow_zen.materializers.tree.parts import NoParts

_ARROW_TYPES = {
    str: pa.large_string(),
    bytes: pa.large_binary(),
    bool: pa.bool_(),
    int: pa.int64(),
    date: pa.date32(),
}
_MISSING = {"None": None, "nan": np.nan, "NA": pd.NA}


def store_objects(registry: MaterializerRegistry, values: Any) -> Stored:
    """Give an object array as Arrow, and note how to make the same Python objects of it again."""
    kinds = set(map(type, values))
    for missing, kind in (("None", type(None)), ("NA", type(pd.NA)), ("nan", float)):
        exact = kinds - {kind}
        if len(exact) == 1 and exact <= _ARROW_TYPES.keys() and (kind is not float or _only_nan(values, kinds)):
            return _store_one_type(registry, values, next(iter(exact)), missing)
    return _store_cells(registry, values)


def object_room(_: pa.DataType, note: Note, rows: int) -> Room:
    """Make room for the Python objects of a stored column."""
    return ArrayRoom(object, rows, lambda piece: _objects(piece, note))


def _store_one_type(registry: MaterializerRegistry, values: Any, kind: type, missing: str) -> Stored:
    if not _fits(values, kind):
        return _store_cells(registry, values)
    note = {"as": "object", "of": kind.__name__, "missing": missing}
    return Stored(values, lambda part: _of_one_type(part, kind), note)


def _store_cells(registry: MaterializerRegistry, values: Any) -> Stored:
    return Stored(values, lambda part: _texts(registry, part), {"as": "object", "of": "json"})


def _only_nan(values: Any, kinds: set[type]) -> bool:
    return float not in kinds or all(value != value for value in values if type(value) is float)


def _fits(values: Any, kind: type) -> bool:
    """Try every value, and keep none: the text of a column may need more memory than its objects."""
    try:
        for at in range(0, len(values), MOST_ROWS_IN_A_GROUP):
            _of_one_type(values[at : at + MOST_ROWS_IN_A_GROUP], kind)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return False
    return True


def _of_one_type(values: Any, kind: type) -> pa.Array:
    return pa.array(values, _ARROW_TYPES[kind], from_pandas=True)


def _texts(registry: MaterializerRegistry, values: Any) -> pa.Array:
    encoder = Encoder(NoParts(registry, "a cell of a table"))
    return pa.array([canonical(encoder.encode(value)) for value in values], pa.large_string())


def _objects(piece: pa.Array, note: Note) -> Any:
    if note["of"] == "json":
        return _array(_cells(piece.to_pylist()))
    missing = _MISSING[note["missing"]]
    items = piece.to_numpy(zero_copy_only=False) if note["of"] in ("str", "bytes") else piece.to_pylist()
    if missing is not None and piece.null_count:
        items = [missing if item is None else item for item in items]
    return _array(items)


def _array(items: Any) -> Any:
    return np.fromiter(items, dtype=object, count=len(items))


def _cells(texts: list[str]) -> list[Any]:
    """Read the cells together: one by one, a million of them takes three times as long."""
    text = f"[{','.join(texts)}]"
    nodes: list[Any] = json.loads(text)
    if len(nodes) != len(texts):
        raise ArtifactRefused("A cell of a table is not one value of typed JSON.")
    if f'"{TAG}"' not in text:
        return nodes
    decoder = Decoder(_no_part)
    return [decoder.decode(node) for node in nodes]


def _no_part(node: Any, _: Any) -> Any:
    raise ArtifactRefused(f"A cell of a table refers to files of its own: {node!r}.")
