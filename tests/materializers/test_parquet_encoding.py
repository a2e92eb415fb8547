"""Tests of encodings: integers and times that do not repeat are written as differences, others with a dictionary."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_zen.materializers.arrow.parquet_writer import write_parquet
from airflow_zen.materializers.arrow.statistics import estimate_distinct

ROWS = 200_000
RANDOM = np.random.default_rng(0)
ORDER = np.arange(ROWS)


def encodings(table, path, batches=None):
    write_parquet(batches or [table], table.schema, path)
    assert pq.read_table(path).equals(table)
    group = pq.read_metadata(path).row_group(0)
    columns = map(group.column, range(group.num_columns))
    return {column.path_in_schema: "differences" if _differs(column) else _other(column) for column in columns}


def _differs(column):
    return "DELTA_BINARY_PACKED" in column.encodings


def _other(column):
    return "dictionary" if column.has_dictionary_page else "plain"


DIFFER = {
    "random": RANDOM.integers(0, 10**9, ROWS),
    "in order": ORDER,
    "whole 64 bits": RANDOM.integers(-(2**63), 2**63 - 1, ROWS),
    "32 bits": RANDOM.integers(-(2**31), 2**31 - 1, ROWS).astype("i4"),
    "unsigned": RANDOM.integers(0, 2**64 - 1, ROWS, dtype="u8"),
    "with.nulls": pa.array(ORDER, mask=RANDOM.random(ROWS) < 0.5),
    "time": pa.array(ORDER * 1_000_000_007, pa.timestamp("ns")),
    "duration": pa.array(RANDOM.integers(0, 10**12, ROWS), pa.duration("us")),
    "time of day": pa.array(RANDOM.integers(0, 86_400_000_000, ROWS), pa.time64("us")),
    "far days": pa.array(RANDOM.integers(0, 2**30, ROWS).astype("i4"), pa.date32()),
}
REPEAT = {
    "few": RANDOM.integers(0, 1000, ROWS),
    "each a hundred times": np.repeat(RANDOM.integers(-(2**63), 2**63 - 1, ROWS // 100), 100),
    "each a dozen times": RANDOM.integers(-(2**63), 2**63 - 1, ROWS // 12)[RANDOM.integers(0, ROWS // 12, ROWS)],
    "days": pa.array(np.repeat(ORDER[: ROWS // 50] * 86_400, 50), pa.timestamp("s")).cast(pa.timestamp("ms")),
    "nothing": pa.nulls(ROWS, pa.int64()),
    "16 bits": RANDOM.integers(0, 2**15, ROWS).astype("i2"),
    "texts": [f"text {n}" for n in ORDER],
}


@pytest.mark.parametrize("name", DIFFER)
def test_distinct_numbers_are_written_as_differences(name, tmp_path):
    """Distinct integers and times of any type, sorted or not, are written as differences and read unchanged."""
    assert encodings(pa.table({name: DIFFER[name]}), tmp_path / "table.parquet") == {name: "differences"}


@pytest.mark.parametrize("name", REPEAT)
def test_repeated_values_have_a_dictionary(name, tmp_path):
    """Values that occur several times, and types without differences, are written with a dictionary."""
    assert encodings(pa.table({name: REPEAT[name]}), tmp_path / "table.parquet") == {name: "dictionary"}


def test_each_column_of_a_table_has_its_own_encoding(tmp_path):
    """Differences, dictionaries, plain floats and nested values are used in one table; a small table has dictionaries."""
    table = pa.table(
        {
            "differ": ORDER,
            "repeat": ORDER % 7,
            "floats": ORDER / 3,
            "nested": pa.array([{"differ": number} for number in range(ROWS)]),
        }
    )
    found = encodings(table, tmp_path / "table.parquet")
    assert found == {"differ": "differences", "repeat": "dictionary", "floats": "plain", "nested.differ": "plain"}
    assert encodings(pa.table({"differ": ORDER[:1000]}), tmp_path / "few.parquet") == {"differ": "dictionary"}


def test_batches_do_not_change_the_encoding(tmp_path):
    """However it is cut into batches, also where later rows repeat, a table gives the same file."""
    whole = pa.table({"number": np.concatenate([ORDER, ORDER, ORDER * 0])})
    cut = [whole.slice(at, 33_333) for at in range(0, len(whole), 33_333)]
    for name, batches in {"whole": [whole], "cut": cut}.items():
        assert encodings(whole, tmp_path / name, batches) == {"number": "differences"}
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "cut").read_bytes()


def test_distinct_values_are_estimated():
    """The estimate is exact for all values, and close for a sample of them."""
    values = pa.array(RANDOM.integers(0, 50_000, ROWS))
    true = len(values.unique())
    assert estimate_distinct(values, ROWS) == true
    assert estimate_distinct(values.slice(0, ROWS // 10), ROWS) == pytest.approx(true, rel=0.25)
    assert estimate_distinct(values.slice(0, 0), ROWS) == 0
