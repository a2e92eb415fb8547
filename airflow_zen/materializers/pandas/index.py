"""The labels of rows and columns."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from airflow_zen.materializers.pandas.columns import array_to_pandas, buffer_for, column_to_arrow, values_of
from airflow_zen.materializers.pandas.dtype_names import freq_name
from airflow_zen.materializers.pandas.dtypes import CodesBuffer, codes_to_arrow
from airflow_zen.materializers.typed_json.encoding import is_utf8

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_zen.materializers.pandas.buffers import ArrowColumn, ColumnBuffer, PandasMetadata
    from airflow_zen.materializers.registry import MaterializerRegistry


def restorable_from_names(columns: pd.Index) -> bool:
    """Tell whether column labels come back from the names in a parquet file alone."""
    if type(columns) is not pd.Index or columns.name is not None or not len(columns):
        return False
    if not are_valid_column_names(columns):
        return False
    usual = pd.Index(list(columns)).dtype
    return bool(columns.dtype == usual and getattr(columns.dtype, "storage", "") == getattr(usual, "storage", ""))


def are_valid_column_names(names: Iterable[Any]) -> bool:
    """Tell whether labels can be the column names of a file: distinct, and strings that UTF-8 has."""
    labels = list(names)
    return all(type(label) is str and is_utf8(label) for label in labels) and len(set(labels)) == len(labels)


def index_columns(
    registry: MaterializerRegistry, index: pd.Index, used_names: Collection[str]
) -> tuple[dict[str, ArrowColumn], dict[str, Any]]:
    """Give the columns that hold the row labels, and the note that makes an index of them.

    0, 1, 2, … needs neither. `used_names` are the names of the other columns in the file.
    """
    if isinstance(index, pd.RangeIndex):
        usual = used_names and index.equals(pd.RangeIndex(len(index))) and index.step == 1 and index.name is None
        return {}, {} if usual else {"index": {"range": index}}
    levels = _level_columns(registry, index)
    names = _index_column_names(index.names, used_names)
    metadata = {"names": list(index.names), "in": names, "how": [level.metadata for level in levels]}
    if isinstance(index, pd.MultiIndex):
        metadata["multi"] = True
    freq = freq_name(getattr(index, "freq", None)) if isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex) else None
    if freq is not None:
        metadata["freq"] = freq
    return dict(zip(names, levels, strict=True)), {"index": metadata}


def index_buffers(metadata: PandasMetadata, schema: pa.Schema, rows: int) -> dict[str, ColumnBuffer]:
    """Make room for the columns that `index_columns` gave."""
    pairs = zip(metadata.get("in", ()), metadata.get("how", ()), strict=True)
    if metadata.get("multi"):
        return {name: CodesBuffer(how, rows, array_to_pandas) for name, how in pairs}
    return {name: buffer_for(schema.field(name).type, how, rows) for name, how in pairs}


def build_index(columns: Mapping[str, Any], metadata: PandasMetadata, rows: int) -> pd.Index:
    """Make the row labels of what was filled into their rooms; `columns` are the values by name."""
    if not metadata:
        return pd.RangeIndex(rows)
    if "range" in metadata:
        labels: pd.Index = metadata["range"]
        return labels
    arrays = [columns[name] for name in metadata["in"]]
    if metadata.get("multi"):
        levels = [how["categories"] for how in metadata["how"]]
        return pd.MultiIndex(levels=levels, codes=arrays, names=metadata["names"], verify_integrity=False)
    index: Any = pd.Index(arrays[0], arrays[0].dtype, name=metadata["names"][0], tupleize_cols=False, copy=False)
    if "freq" in metadata:
        index.freq = pd.tseries.frequencies.to_offset(metadata["freq"])
    return cast("pd.Index", index)


def _level_columns(registry: MaterializerRegistry, index: pd.Index) -> list[ArrowColumn]:
    if not isinstance(index, pd.MultiIndex):
        return [column_to_arrow(registry, values_of(index))]
    pairs = zip(index.codes, index.levels, strict=True)
    return [codes_to_arrow(registry, codes, level.rename(None), column_to_arrow) for codes, level in pairs]


def _index_column_names(names: Collection[Any], used_names: Collection[str]) -> list[str]:
    """Name the columns of an index by its names, or as pandas does where it has none."""
    wanted = list(names)
    if are_valid_column_names(wanted) and not set(wanted) & set(used_names):
        return wanted
    prefix = "__index_level"
    while any(name.startswith(prefix) for name in used_names):
        prefix = f"_{prefix}"
    return [f"{prefix}_{level}__" for level in range(len(wanted))]
