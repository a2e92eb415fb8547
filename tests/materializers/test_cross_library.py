"""Tests of tables that one library saved and another loads."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_zen.materializers.registry import default_registry
from tests.materializers.sameness import assert_same

ROWS = {
    "i": [1, 2, None],
    "f": [1.5, None, 2.5],
    "s": ["a", None, "é"],
    "t": [dt.datetime(2024, 1, 1), None, dt.datetime(2024, 1, 2)],
}
ARROW = pa.table(ROWS)
TABLES = {
    "arrow": ARROW,
    "arrow with a dictionary": ARROW.set_column(2, "s", ARROW["s"].dictionary_encode()),
    "pandas": pd.DataFrame(ROWS),
    "pandas with an index": pd.DataFrame(ROWS).set_index("s"),
    "polars": pl.DataFrame(ROWS),
}
KINDS = (pa.Table, pd.DataFrame, pl.DataFrame)


@pytest.mark.parametrize("wanted", KINDS)
@pytest.mark.parametrize("value", TABLES.values(), ids=TABLES.keys())
def test_table_is_loaded_as_that_of_another_library(value: Any, wanted: type, tmp_path: Path) -> None:
    """Each tabular artifact loads as each tabular type, with the same rows and column names."""
    saved = default_registry().save(value, tmp_path)
    view = default_registry().load(tmp_path, saved.encoding, wanted)
    assert type(view) is wanted
    assert _rows(view) == _rows(value)


@pytest.mark.parametrize("value", TABLES.values(), ids=TABLES.keys())
def test_without_a_requested_type_the_saved_type_comes_back(value: Any, tmp_path: Path) -> None:
    """A value is loaded as its own type where no other is requested."""
    saved = default_registry().save(value, tmp_path)
    assert_same(value, default_registry().load(tmp_path, saved.encoding))
    assert_same(value, default_registry().load(tmp_path, saved.encoding, object))


def test_single_column_is_loaded_as_a_series(tmp_path: Path) -> None:
    """A table of one column can be loaded as a pandas series."""
    saved = default_registry().save(pl.DataFrame({"x": [1, 2]}), tmp_path)
    assert_same(pd.Series([1, 2], name="x"), default_registry().load(tmp_path, saved.encoding, pd.Series))


def test_series_with_a_label_named_columns_is_loaded_as_a_table(tmp_path: Path) -> None:
    """The labels of a series are not mistaken for attributes of a frame."""
    saved = default_registry().save(pd.Series([1, 2], index=["columns", "index"], name="x"), tmp_path)
    loaded = default_registry().load(tmp_path, saved.encoding, pa.Table)
    assert loaded.column("x").to_pylist() == [1, 2]


def test_frame_is_loaded_as_a_lazy_frame(tmp_path: Path) -> None:
    """A stored polars frame can be loaded as a LazyFrame."""
    saved = default_registry().save(pl.DataFrame({"x": [1, 2]}), tmp_path)
    assert (
        default_registry().load(tmp_path, saved.encoding, pl.LazyFrame).select(pl.col("x").sum()).collect().item() == 3
    )


def test_record_batch_is_loaded_as_a_frame(tmp_path: Path) -> None:
    """A record batch can be loaded as a frame of pandas and of polars."""
    saved = default_registry().save(pa.record_batch({"x": [1, 2]}), tmp_path)
    assert_same(pd.DataFrame({"x": [1, 2]}), default_registry().load(tmp_path, saved.encoding, pd.DataFrame))
    assert_same(pl.DataFrame({"x": [1, 2]}), default_registry().load(tmp_path, saved.encoding, pl.DataFrame))


def test_artifact_is_a_plain_parquet(tmp_path: Path) -> None:
    """A frame's file is readable by any engine, under its own column names, with nulls where values are missing."""
    frame = pd.DataFrame({"a": [1, 2], "f": [1.5, np.nan], "c": pd.Categorical(["x", None]), "o": [{"k": 1}, "a"]})
    default_registry().save(frame, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]
    assert pq.read_table(tmp_path / "table.parquet").to_pylist() == [
        {"a": 1, "f": 1.5, "c": "x", "o": '{"k":1}'},
        {"a": 2, "f": None, "c": None, "o": '"a"'},
    ]
    assert pl.read_parquet(tmp_path / "table.parquet").columns == ["a", "f", "c", "o"]


def test_plain_frame_needs_no_metadata(tmp_path: Path) -> None:
    """A usual frame is a parquet file without metadata of this package, and pandas itself reads it back the same."""
    frame = pd.DataFrame({"a": [1, 2], "f": [1.5, np.nan], "s": ["x", None], "t": pd.date_range("2024", periods=2)})
    default_registry().save(frame, tmp_path)
    assert set(pq.ParquetFile(tmp_path / "table.parquet").metadata.metadata) == {b"ARROW:schema"}
    assert_same(frame, pd.read_parquet(tmp_path / "table.parquet"))


def _rows(table: Any) -> list[dict[str, Any]]:
    if isinstance(table, pd.DataFrame):
        if table.index.name:
            table = table.reset_index()
        table = pa.Table.from_pandas(table, preserve_index=False)
    if isinstance(table, pl.DataFrame):
        table = table.to_arrow()
    return [{name: row[name] for name in sorted(row)} for row in table.to_pylist()]
