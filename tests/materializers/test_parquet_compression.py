"""Tests of compression: columns that zstd hardly makes smaller are not compressed, all others are."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_zen.materializers.arrow.parquet_writer import write_parquet

ROWS = 200_000
RANDOM = np.random.default_rng(0)
DENSE = RANDOM.standard_normal(ROWS)
TENTHS = RANDOM.integers(-100, 100, ROWS) / 10


def codecs(table, path, batches=None):
    write_parquet(batches or [table], table.schema, path)
    assert pq.read_table(path).equals(table)
    group = pq.read_metadata(path).row_group(0)
    return {group.column(n).path_in_schema: group.column(n).compression for n in range(group.num_columns)}


def test_only_compressible_columns_are_compressed(tmp_path):
    """Random floats are not compressed; rounded floats, integers, texts and every leaf of a nested column are."""
    words = [f"carrier {number}" for number in RANDOM.integers(0, 500, ROWS)]
    columns = {
        "dense": DENSE,
        "float": DENSE.astype("f4"),
        "time": pa.array(RANDOM.integers(0, 2**62, ROWS), pa.timestamp("ns")),
        "tenths": TENTHS,
        "number": RANDOM.integers(0, 2**62, ROWS),
        "text": words,
        "dotted.name": DENSE,
        "nested": pa.array([{"of": [word], "a": 1.0} for word in words]),
    }
    found = codecs(pa.table(columns), tmp_path / "table.parquet")
    plain = {name for name, codec in found.items() if codec == "UNCOMPRESSED"}
    assert plain == {"dense", "float", "dotted.name"}
    assert {codec for name, codec in found.items() if name not in plain} == {"ZSTD"}
    assert {"nested.of.list.element", "nested.a"} <= set(found)


@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_small_tables_are_compressed(tmp_path, rows):
    """A small table is compressed without a trial."""
    assert codecs(pa.table({"dense": DENSE[:rows]}), tmp_path / "table.parquet") == {"dense": "ZSTD"}


def test_batches_do_not_change_the_bytes(tmp_path):
    """However it is cut into batches and chunks, and also as a slice of another table, a table gives the same file."""
    mask = RANDOM.random(ROWS) < 0.1
    whole = pa.table({"dense": pa.array(DENSE, mask=mask), "tenths": pa.array(TENTHS, mask=mask)})
    around = pa.concat_tables([whole.slice(0, 7), whole, whole.slice(0, 5)]).combine_chunks().slice(7, ROWS)
    cut = [whole.slice(at, 33_333) for at in range(0, ROWS, 33_333)]
    files = []
    for number, batches in enumerate(([whole], cut, [around], [pa.concat_tables(cut)])):
        path = tmp_path / f"{number}.parquet"
        assert codecs(whole, path, batches) == {"dense": "UNCOMPRESSED", "tenths": "ZSTD"}
        files.append(path.read_bytes())
    assert files.count(files[0]) == len(files)


def test_an_error_of_the_batches_is_raised(tmp_path):
    """An error raised by the iterator of batches is raised, before the first row group and after it."""
    schema = pa.schema({"dense": pa.float64()})

    def broken(count):
        yield from [pa.table({"dense": np.resize(DENSE, 300_000)})] * count
        raise LookupError("no more rows")

    for count in (0, 1):
        with pytest.raises(LookupError, match="no more rows"):
            write_parquet(broken(count), schema, tmp_path / f"{count}.parquet")
