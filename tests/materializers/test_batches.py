"""Tests of tables that are saved batch by batch."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from airflow_zen.artifacts.hashing import file_hash
from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.arrow.parquet_writer import MAX_ROW_GROUP_SIZE, row_group_size
from airflow_zen.materializers.registry import default_registry

REGISTRY = default_registry()
ROWS = MAX_ROW_GROUP_SIZE + 10_001


def frame(rows: int = ROWS) -> pd.DataFrame:
    random = np.random.default_rng(7)
    return pd.DataFrame(
        {
            "x": random.standard_normal(rows),
            "n": random.integers(0, 100, rows),
            "s": pd.Series(random.choice(["a", "b", None], rows), dtype="str"),
            "when": pd.date_range("2024", periods=rows, freq="s", tz="Europe/Paris"),
            "c": pd.Categorical.from_codes(random.integers(0, 3, rows), ["u", "v", "w"]),
        }
    )


def cut(value: Any, size: int) -> Iterator[Any]:
    length = len(value)
    return (value[at : at + size] for at in range(0, length, size))


def saved(value: Any, directory: Path) -> tuple[Any, dict[str, str]]:
    directory.mkdir()
    done = REGISTRY.save(value, directory)
    return done, {p.name: file_hash(p) for p in directory.rglob("*") if p.is_file()}


@pytest.mark.parametrize("size", [1_000, 100_000, ROWS])
def test_batches_of_a_frame_have_the_bytes_of_the_whole(size: int, tmp_path: Path) -> None:
    """However a frame is cut, its artifact has the bytes, the type and the summary of the whole frame."""
    whole = frame()
    assert saved(cut(whole, size), tmp_path / "cut") == saved(whole, tmp_path / "whole")


@pytest.mark.parametrize(
    "value",
    [frame(), iter([frame()]), frame(3), frame(3)["n"], pa.table({"x": np.arange(2 * ROWS)})],
    ids=["frame", "stream", "small frame", "series", "table"],
)
def test_table_is_hashed_while_it_is_written(value: Any, tmp_path: Path) -> None:
    """The hash that a materializer returns is that of its file, and is not part of the summary in the manifest."""
    done, hashes = saved(value, tmp_path / "table")
    assert done.hashes == hashes
    assert "hashes" not in done.summary


@pytest.mark.parametrize("size", [1_000, 100_000, ROWS])
def test_record_batches_have_the_bytes_of_the_whole(size: int, tmp_path: Path) -> None:
    """However a table is cut into record batches, a reader or a dataset, its artifact is that of the whole table."""
    table = pa.table({"x": np.arange(ROWS) * 0.5, "s": [f"row {n % 7}" for n in range(ROWS)]})
    whole = saved(table, tmp_path / "whole")
    assert saved(iter(table.to_batches(size)), tmp_path / "cut") == whole
    reader = pa.RecordBatchReader.from_batches(table.schema, iter(table.to_batches(size)))
    assert saved(reader, tmp_path / "reader") == whole
    (tmp_path / "files").mkdir()
    for at, batch in enumerate(table.to_batches(size)):
        pq.write_table(pa.Table.from_batches([batch]), tmp_path / "files" / f"{at:04}.parquet")
    assert saved(ds.dataset(tmp_path / "files"), tmp_path / "dataset") == whole


def test_batches_that_parquet_would_change_are_one_arrow_file(tmp_path: Path) -> None:
    """Record batches of a type that parquet does not have come back exactly from an Arrow file."""
    table = pa.table({"d": pa.array(range(20), pa.date64())})
    done, _ = saved(iter(table.to_batches(3)), tmp_path / "cut")
    assert done.encoding == "pyarrow.ipc@1"
    assert REGISTRY.load(tmp_path / "cut", done.encoding).equals(table)


def test_empty_reader_keeps_its_columns(tmp_path: Path) -> None:
    """A reader without batches is stored as an empty table of its schema."""
    schema = pa.schema([("a", pa.int8())])
    done, _ = saved(pa.RecordBatchReader.from_batches(schema, []), tmp_path / "empty")
    assert REGISTRY.load(tmp_path / "empty", done.encoding).equals(schema.empty_table())


def test_lazy_frame_has_the_bytes_of_its_frame(tmp_path: Path) -> None:
    """A LazyFrame is stored with the bytes of the frame that it computes."""
    eager = pl.DataFrame({"a": range(ROWS), "b": [str(n % 9) for n in range(ROWS)]})
    plan = eager.lazy().filter(pl.col("a") % 3 == 0)
    done, hashes = saved(plan, tmp_path / "plan")
    assert (done, hashes) == saved(plan.collect(), tmp_path / "eager")
    assert done.type == "polars.DataFrame"


def test_row_labels_are_kept(tmp_path: Path) -> None:
    """Row numbers continue through all batches; any other index is kept."""
    batches = [pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [3]})]
    done, _ = saved(iter(batches), tmp_path / "counted")
    pd.testing.assert_frame_equal(
        REGISTRY.load(tmp_path / "counted", done.encoding), pd.concat(batches, ignore_index=True)
    )
    dated = pd.DataFrame({"a": range(5)}, index=pd.date_range("2024", periods=5, name="day"))
    done, _ = saved(cut(dated, 2), tmp_path / "dated")
    loaded = REGISTRY.load(tmp_path / "dated", done.encoding)
    pd.testing.assert_frame_equal(loaded, dated, check_freq=False)
    named = pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(2, name="row"))
    done, _ = saved(iter([named, named]), tmp_path / "named")
    assert list(REGISTRY.load(tmp_path / "named", done.encoding).index) == [0, 1, 0, 1]


def test_empty_frames_are_skipped(tmp_path: Path) -> None:
    """A batch without rows is skipped, whatever its dtypes; the columns of an only batch are stored."""
    batches = [pd.DataFrame({"a": [1]}), pd.DataFrame({"a": []}), pd.DataFrame({"a": [2]})]
    done, _ = saved(iter(batches), tmp_path / "three")
    assert list(REGISTRY.load(tmp_path / "three", done.encoding)["a"]) == [1, 2]
    done, _ = saved(iter([pd.DataFrame({"a": pd.array([], "int8")})]), tmp_path / "none")
    assert REGISTRY.load(tmp_path / "none", done.encoding).dtypes.to_dict() == {"a": np.dtype("int8")}


def _frames(*columns: Any) -> Callable[[], Iterator[Any]]:
    return lambda: (pd.DataFrame({"a": column}) for column in columns)


UNLIKE = {
    "other dtype": (_frames([1], [1.5]), "column 'a' as double"),
    "other names": (lambda: iter([pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})]), "the same columns"),
    "other categories": (_frames(pd.Categorical(["x"]), pd.Categorical(["y"])), "categories"),
    "other zone": (
        _frames(pd.to_datetime(["2024"]).tz_localize("UTC"), pd.to_datetime(["2024"]).tz_localize("Europe/Paris")),
        "tz=Europe/Paris",
    ),
    "no frame": (lambda: iter([pd.DataFrame({"a": [1]}), 7]), "Batch 1 is a int"),
    "many categories": (_frames(pd.Categorical([str(n) for n in range(2000)])), "more than 1000"),
    "no columns": (lambda: iter([pd.DataFrame(index=range(2))]), "without columns"),
    "arrow types": (lambda: iter([pa.table({"a": [1]}), pa.table({"a": ["x"]})]), "column 'a' as string"),
    "dictionaries": (
        lambda: iter([pa.table({"a": pa.array([letter]).dictionary_encode()}) for letter in "xy"]),
        None,
    ),
}


@pytest.mark.parametrize(("make", "reason"), UNLIKE.values(), ids=UNLIKE.keys())
def test_unlike_batches_are_refused(make: Any, reason: str | None, tmp_path: Path) -> None:
    """Batches of unlike columns are refused with the number of the batch and what differs, or stored exactly."""
    directory = tmp_path / "artifact"
    directory.mkdir()
    if reason is None:
        done = REGISTRY.save(make(), directory)
        assert REGISTRY.load(directory, done.encoding).column("a").to_pylist() == ["x", "y"]
        return
    with pytest.raises(SaveRefused, match=reason):
        REGISTRY.save(make(), directory)


def test_statistics_are_right(tmp_path: Path) -> None:
    """The summary has nulls, bounds, mean and an estimate of distinct values, whichever library writes."""
    table = pd.DataFrame({"x": np.arange(100_000) % 1000 / 2.0, "s": ["b", None] * 50_000})
    for name, value in {"pandas": table, "arrow": pa.Table.from_pandas(table), "polars": pl.from_pandas(table)}.items():
        done, _ = saved(value, tmp_path / name)
        x, s = done.summary["columns"]
        assert (x["nulls"], x["min"], x["max"]) == (0, 0.0, 499.5), name
        assert (s["nulls"], s["min"], s["max"]) == (50_000, "b", "b"), name
        if name != "polars":
            assert x["mean"] == pytest.approx(249.75)
            assert s["distinct"] == 1
            assert x["distinct"] == pytest.approx(1000, rel=0.35)


def test_wide_tables_have_short_row_groups(tmp_path: Path) -> None:
    """A row group has about 64 MiB at most, so that one fits into memory however wide the table is."""
    wide = pa.schema([(f"c{n}", pa.float64()) for n in range(1000)])
    assert row_group_size(wide) == 8192
    table = pa.table([pa.array(np.zeros(20_000))] * 1000, schema=wide)
    saved(table, tmp_path / "wide")
    footer = pq.read_metadata(tmp_path / "wide" / "table.parquet")
    assert [footer.row_group(n).num_rows for n in range(footer.num_row_groups)] == [8192, 8192, 3616]


def test_one_batch_at_a_time_is_held(tmp_path: Path) -> None:
    """Saving many batches holds a row group and a batch in memory, not the table."""
    batch = pd.DataFrame(np.random.default_rng(0).standard_normal((100_000, 10)), columns=list("abcdefghij"))
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    most = 0

    def batches() -> Iterator[pd.DataFrame]:
        nonlocal most
        for _ in range(60):
            yield batch.copy()
            most = max(most, pool.bytes_allocated() - before + tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        saved(batches(), tmp_path / "long")
    finally:
        tracemalloc.stop()
    assert most < 0.25 * 60 * batch.memory_usage().sum()


# Memory is measured for a whole process, so it does nothing else. Mapped files are not counted.
PLAN = """
import sys, threading
from pathlib import Path
import polars
from airflow_zen.materializers.registry import default_registry

def held():
    return int(Path("/proc/self/status").read_text().partition("RssAnon:")[2].split()[0]) * 1024

def watch():
    global most
    while not stop.wait(0.005):
        most = max(most, held())

plan = polars.concat([polars.scan_parquet(sys.argv[1])] * 4).with_columns(e=polars.col("a") * 2)
most = before = held()
stop = threading.Event()
threading.Thread(target=watch, daemon=True).start()
print(default_registry().save(plan, Path(sys.argv[2])).summary["rows"])
stop.set()
print(most - before)
"""


def test_lazy_frame_is_stored_in_a_part_of_its_memory(tmp_path: Path) -> None:
    """A LazyFrame of 800 MB is stored in the memory of the row groups that polars' threads have at hand."""
    groups, rows = 40, 125_000
    random, names = np.random.default_rng(0), list("abcd")
    schema = pa.schema([(name, pa.float64()) for name in names])
    with pq.ParquetWriter(tmp_path / "source.parquet", schema, compression="none") as file:
        for _ in range(groups):
            file.write_table(pa.table({name: random.standard_normal(rows) for name in names}, schema=schema))
    (tmp_path / "artifact").mkdir()
    command = [sys.executable, "-c", PLAN, str(tmp_path / "source.parquet"), str(tmp_path / "artifact")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    stored, most = map(int, done.stdout.split())
    assert stored == 4 * groups * rows
    assert 0 < most < 0.6 * stored * 5 * 8


@pytest.mark.parametrize(
    ("values", "distinct"),
    [
        ([1, 2, 2, None], 2),
        ([0.0, -0.0, 1.5, 1.5], 3),
        ([float("nan"), float("nan"), 1.0], 2),
        (["a", "b", "a", None], 2),
        ([True, True], 1),
        ([None, None], 0),
    ],
    ids=["integers", "zeros of both signs", "nan", "texts", "booleans", "nulls"],
)
def test_distinct_values_of_a_small_table_are_exact(values: list[Any], distinct: int, tmp_path: Path) -> None:
    """All values of a table of less than 1,024 rows are counted, and nulls are none of them."""
    table = pa.table({"x": pa.array(values, pa.float64() if values == [None, None] else None)})
    column = REGISTRY.save(table, tmp_path).summary["columns"][0]
    assert column["distinct"] == distinct
