"""The labels of rows and columns."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from airflow_zen.materializers.pandas.columns import (
    buffer_for,
    codes_buffer,
    codes_to_arrow,
    column_to_arrow,
    values_of,
)
from airflow_zen.materializers.pandas.dtype_names import freq_name
from airflow_zen.materializers.typed_json.encoding import is_utf8

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_zen.materializers.pandas.buffers import ArrowColumn, Buffer, PandasMetadata
    from airflow_zen.materializers.registry import MaterializerRegistry


def restorable_from_names(columns: pd.Index) -> bool:
    """Whether column labels come back from the names in a parquet file alone."""
    if type(columns) is not pd.Index or columns.name is not None or not len(columns):
        return False
    if not are_valid_column_names(columns):
        return False
    usual = pd.Index(list(columns)).dtype
    return bool(columns.dtype == usual and getattr(columns.dtype, "storage", "") == getattr(usual, "storage", ""))


def are_valid_column_names(names: Iterable[Any]) -> bool:
    """Whether labels can be the column names of a file: they are distinct, and strings that UTF-8 has."""
    labels = list(names)
    return all(type(label) is str and is_utf8(label) for label in labels) and len(set(labels)) == len(labels)


def index_columns(
    registry: MaterializerRegistry, index: pd.Index, used_names: Collection[str]
) -> tuple[dict[str, ArrowColumn], dict[str, Any]]:
    """Return the columns that hold the row labels, and the metadata that makes an index of them.

    The row numbers 0, 1, 2, … need neither. `used_names` are the names of the other columns in the file.
    """
    if isinstance(index, pd.RangeIndex):
        usual = used_names and index.equals(pd.RangeIndex(len(index))) and index.step == 1 and index.name is None
        return {}, {} if usual else {"index": {"range": index}}
    names = _index_column_names(index.names, used_names)
    if isinstance(index, pd.MultiIndex):
        pairs = zip(index.codes, index.levels, strict=True)
        levels = [codes_to_arrow(registry, codes, level.rename(None)) for codes, level in pairs]
    else:
        levels = [column_to_arrow(registry, values_of(index))]
    metadata = {"names": list(index.names), "in": names, "how": [level.metadata for level in levels]}
    metadata |= {"multi": True} if isinstance(index, pd.MultiIndex) else {}
    freq = freq_name(getattr(index, "freq", None)) if isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex) else None
    if freq is not None:
        metadata["freq"] = freq
    return dict(zip(names, levels, strict=True)), {"index": metadata}


def index_buffers(metadata: PandasMetadata, schema: pa.Schema, rows: int) -> dict[str, Buffer]:
    """Return empty buffers for the columns that `index_columns` returned."""
    make = codes_buffer if metadata.get("multi") else buffer_for
    pairs = zip(metadata.get("in", ()), metadata.get("how", ()), strict=True)
    return {name: make(schema.field(name).type, how, rows) for name, how in pairs}


def build_index(values: Mapping[str, Any], metadata: PandasMetadata, rows: int, at: int | None = None) -> pd.Index:
    """Return the labels of a table, or of its `rows` rows from `at` on; `values` are those of the buffers."""
    if not metadata:
        return pd.RangeIndex(at or 0, (at or 0) + rows)
    if "range" in metadata:
        # A table without columns has labels, and no rows.
        labels: pd.Index = metadata["range"]
        return labels if at is None else labels[at : at + rows]
    arrays = [values[name] for name in metadata["in"]]
    if metadata.get("multi"):
        levels = [how["categories"] for how in metadata["how"]]
        return pd.MultiIndex(levels=levels, codes=arrays, names=metadata["names"], verify_integrity=False)
    index: Any = pd.Index(arrays[0], arrays[0].dtype, name=metadata["names"][0], tupleize_cols=False, copy=False)
    if "freq" in metadata:
        index.freq = pd.tseries.frequencies.to_offset(metadata["freq"])
    return cast("pd.Index", index)


def _index_column_names(names: Collection[Any], used_names: Collection[str]) -> list[str]:
    """Return column names for the levels of an index: its own, or those that pandas uses where it has none."""
    wanted = list(names)
    if are_valid_column_names(wanted) and not set(wanted) & set(used_names):
        return wanted
    prefix = "__index_level"
    while any(name.startswith(prefix) for name in used_names):
        prefix = f"_{prefix}"
    return [f"{prefix}_{level}__" for level in range(len(wanted))]
