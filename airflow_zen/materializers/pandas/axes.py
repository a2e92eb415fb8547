"""The labels of rows and columns."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

import pandas as pd
import pyarrow as pa

from airflow_zen.materializers.pandas.categories import CodesRoom, store_codes
from airflow_zen.materializers.pandas.columns import restore, room_for, store, values_of
from airflow_zen.materializers.pandas.rooms import Room
from airflow_zen.materializers.pandas.stored import Note, Stored
from airflow_zen.materializers.pandas.zones import freq_note
from airflow_zen.materializers.registry import MaterializerRegistry
from airflow_zen.materializers.tree.encoder import is_utf8


def is_default_columns(columns: pd.Index) -> bool:
    """Tell whether column labels come back from the names in a parquet file alone."""
    if type(columns) is not pd.Index or columns.name is not None or not len(columns):
        return False
    if not are_plain(columns):
        return False
    usual = pd.Index(list(columns)).dtype
    return bool(columns.dtype == usual and getattr(columns.dtype, "storage", "") == getattr(usual, "storage", ""))


def are_plain(names: Iterable[Any]) -> bool:
    """Tell whether labels can be the column names of a file: distinct, and strings that UTF-8 has."""
    labels = list(names)
    return all(type(label) is str and is_utf8(label) for label in labels) and len(set(labels)) == len(labels)


def index_columns(
    registry: MaterializerRegistry, index: pd.Index, taken: Collection[str]
) -> tuple[dict[str, Stored], dict[str, Any]]:
    """Give the columns that hold the row labels, and the note that makes an index of them.

    0, 1, 2, … needs neither. `taken` are the names of the other columns in the file.
    """
    if isinstance(index, pd.RangeIndex):
        usual = taken and index.equals(pd.RangeIndex(len(index))) and index.step == 1 and index.name is None
        return {}, {} if usual else {"index": {"range": index}}
    levels = _levels(registry, index)
    names = _names(index.names, taken)
    note = {"names": list(index.names), "in": names, "how": [level.note for level in levels]}
    if isinstance(index, pd.MultiIndex):
        note["multi"] = True
    freq = freq_note(getattr(index, "freq", None)) if isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex) else None
    if freq is not None:
        note["freq"] = freq
    return dict(zip(names, levels, strict=True)), {"index": note}


def index_rooms(note: Note, schema: pa.Schema, rows: int) -> dict[str, Room]:
    """Make room for the columns that `index_columns` gave."""
    pairs = zip(note.get("in", ()), note.get("how", ()), strict=True)
    if note.get("multi"):
        return {name: CodesRoom(how, rows, restore) for name, how in pairs}
    return {name: room_for(schema.field(name).type, how, rows) for name, how in pairs}


def restored_index(columns: Mapping[str, Any], note: Note, rows: int) -> pd.Index:
    """Make the row labels of what was filled into their rooms; `columns` are the values by name."""
    if not note:
        return pd.RangeIndex(rows)
    if "range" in note:
        labels: pd.Index = note["range"]
        return labels
    arrays = [columns[name] for name in note["in"]]
    if note.get("multi"):
        levels = [how["categories"] for how in note["how"]]
        return pd.MultiIndex(levels=levels, codes=arrays, names=note["names"], verify_integrity=False)
    index: Any = pd.Index(arrays[0], arrays[0].dtype, name=note["names"][0], tupleize_cols=False, copy=False)
    if "freq" in note:
        index.freq = pd.tseries.frequencies.to_offset(note["freq"])
    return cast("pd.Index", index)


def _levels(registry: MaterializerRegistry, index: pd.Index) -> list[Stored]:
    if not isinstance(index, pd.MultiIndex):
        return [store(registry, values_of(index))]
    pairs = zip(index.codes, index.levels, strict=True)
    return [store_codes(registry, codes, level.rename(None), store) for codes, level in pairs]


def _names(names: Collection[Any], taken: Collection[str]) -> list[str]:
    """Name the columns of an index by its names, or as pandas does where it has none."""
    wanted = list(names)
    if are_plain(wanted) and not set(wanted) & set(taken):
        return wanted
    prefix = "__index_level"
    while any(name.startswith(prefix) for name in taken):
        prefix = f"_{prefix}"
    return [f"{prefix}_{level}__" for level in range(len(wanted))]
