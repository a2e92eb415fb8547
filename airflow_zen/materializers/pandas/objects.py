"""Object columns: plain Arrow where all values are of one exact type, else typed JSON in each cell."""

from __future__ import annotations

import json
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.arrow.parquet_writer import MAX_ROW_GROUP_SIZE
from airflow_zen.materializers.pandas.buffers import ArrowColumn, Buffer, ColumnBuffer, PandasMetadata
from airflow_zen.materializers.typed_json.codec import TAG
from airflow_zen.materializers.typed_json.encoding import Decoder, Encoder, canonical_json
from airflow_zen.materializers.typed_json.nested import InlineOnly

if TYPE_CHECKING:
    from airflow_zen.materializers.registry import MaterializerRegistry

_ARROW_TYPES = {
    str: pa.large_string(),
    bytes: pa.large_binary(),
    bool: pa.bool_(),
    int: pa.int64(),
    date: pa.date32(),
}
_MISSING = {"None": None, "nan": np.nan, "NA": pd.NA}


def objects_to_arrow(registry: MaterializerRegistry, values: Any) -> ArrowColumn:
    """Return how an object array becomes Arrow; its metadata says how to make the same Python objects of it again."""
    kinds = set(map(type, values))
    for missing, kind in (("None", type(None)), ("NA", type(pd.NA)), ("nan", float)):
        exact = kinds - {kind}
        if len(exact) == 1 and exact <= _ARROW_TYPES.keys() and (kind is not float or _only_nan(values, kinds)):
            (cls,) = exact
            if _is_convertible(values, cls):
                metadata = {"as": "object", "of": cls.__name__, "missing": missing}
                return ArrowColumn(values, partial(_uniform_array, kind=cls), metadata)
            break
    return ArrowColumn(values, partial(_json_array, registry), {"as": "object", "of": "json"})


def object_buffer(arrow_type: pa.DataType, metadata: PandasMetadata, rows: int) -> Buffer:
    """Return the buffer of the Python objects of a stored column."""
    return ColumnBuffer(arrow_type, rows, partial(_to_objects, metadata=metadata))


def _only_nan(values: Any, kinds: set[type]) -> bool:
    return float not in kinds or all(value != value for value in values if type(value) is float)


def _is_convertible(values: Any, kind: type) -> bool:
    """Whether Arrow has every value; nothing is kept, since the texts of a column may need more memory than its objects."""
    try:
        for at in range(0, len(values), MAX_ROW_GROUP_SIZE):
            _uniform_array(values[at : at + MAX_ROW_GROUP_SIZE], kind)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return False
    return True


def _uniform_array(values: Any, kind: type) -> pa.Array:
    return pa.array(values, _ARROW_TYPES[kind], from_pandas=True)


def _json_array(registry: MaterializerRegistry, values: Any) -> pa.Array:
    encoder = Encoder(InlineOnly(registry, "a cell of a table"))
    return pa.array([canonical_json(encoder.encode(value)) for value in values], pa.large_string())


def _to_objects(chunk: pa.Array, metadata: PandasMetadata) -> Any:
    if metadata["of"] == "json":
        return _object_array(_parse_cells(chunk.to_pylist()))
    missing = _MISSING[metadata["missing"]]
    items = chunk.to_numpy(zero_copy_only=False) if metadata["of"] in ("str", "bytes") else chunk.to_pylist()
    if missing is not None and chunk.null_count:
        items = [missing if item is None else item for item in items]
    return _object_array(items)


def _object_array(items: Any) -> Any:
    return np.fromiter(items, dtype=object, count=len(items))


def _parse_cells(texts: list[str]) -> list[Any]:
    """Return the values of all cells, parsed as one text: one by one, a million of them takes three times as long."""
    text = f"[{','.join(texts)}]"
    nodes: list[Any] = json.loads(text)
    if len(nodes) != len(texts):
        raise ArtifactRefused("A cell of a table is not one value of typed JSON.")
    if f'"{TAG}"' not in text:
        return nodes
    decoder = Decoder(_refuse_part)
    return [decoder.decode(node) for node in nodes]


def _refuse_part(node: Any, _: Any) -> Any:
    raise ArtifactRefused(f"A cell of a table refers to files of its own: {node!r}.")
