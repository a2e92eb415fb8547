"""Object columns: plain Arrow where every value is of one exact type, typed JSON for each cell elsewhere."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.pandas.stored import Note
from airflow_zen.materializers.registry import MaterializerRegistry
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


def store_objects(registry: MaterializerRegistry, values: Any) -> tuple[pa.Array, dict[str, str]]:
    """Give an object array as Arrow, and how to make the same Python objects of it again."""
    kinds = set(map(type, values))
    for missing, kind in (("None", type(None)), ("NA", type(pd.NA)), ("nan", float)):
        exact = kinds - {kind}
        if len(exact) == 1 and exact <= _ARROW_TYPES.keys() and (kind is not float or _only_nan(values, kinds)):
            name = next(iter(exact))
            try:
                return pa.array(values, _ARROW_TYPES[name], from_pandas=True), {"of": name.__name__, "missing": missing}
            except (pa.ArrowException, UnicodeEncodeError, OverflowError):
                break
    return _store_cells(registry, values), {"of": "json"}


def restore_objects(array: pa.Array, note: Note) -> Any:
    """Make the Python objects of a stored column."""
    if note["of"] == "json":
        items = _cells(array.to_pylist())
    else:
        missing = _MISSING[note["missing"]]
        items = array.to_numpy(zero_copy_only=False) if note["of"] in ("str", "bytes") else array.to_pylist()
        if missing is not None and array.null_count:
            items = [missing if item is None else item for item in items]
    return np.fromiter(items, dtype=object, count=len(items))


def _only_nan(values: Any, kinds: set[type]) -> bool:
    return float not in kinds or all(value != value for value in values if type(value) is float)


def _store_cells(registry: MaterializerRegistry, values: Any) -> pa.Array:
    encoder = Encoder(NoParts(registry, "a cell of a table"))
    return pa.array([canonical(encoder.encode(value)) for value in values], pa.large_string())


def _cells(texts: list[str]) -> list[Any]:
    decoder = Decoder(_no_part)
    return [decoder.decode(json.loads(text)) for text in texts]


def _no_part(node: Any) -> Any:
    raise ArtifactRefused(f"A cell of a table refers to files of its own: {node!r}.")
