"""Promises of `airflow_zen.materializers.arrow.parquet_reader` for texts: however they lie in the file, they come back the same."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_zen.materializers.arrow.parquet_reader import ParquetTable
from airflow_zen.materializers.arrow.parquet_writer import write_parquet

ROWS = 300_000


def texts(kind):
    """Make texts that repeat, that never do, that begin to halfway, or that are mostly missing."""
    few = np.array([f"carrier {n}" for n in range(500)])[np.arange(ROWS) % 500]
    many = np.array([f"flight {n}" for n in range(ROWS)])
    if kind == "missing":
        return [text if n % 7 == 0 else None for n, text in enumerate(few.tolist())]
    values = {"few": few, "many": many, "both": np.where(np.arange(ROWS) < ROWS // 2, few, many)}[kind]
    return values.tolist()


@pytest.fixture(scope="module", params=["string", "large_string"])
def table(request):
    """Texts of all kinds, beside names that are read like paths."""
    kind = getattr(pa, request.param)()
    columns = {name: pa.array(texts(name), kind) for name in ("few", "many", "both", "missing")}
    within = pa.StructArray.from_arrays([columns["few"], columns["many"]], ["few", "many"])
    return pa.table({**columns, "within": within, "within.few": columns["few"], "number": pa.array(range(ROWS))})


@pytest.fixture
def stored(table, tmp_path):
    """Write the table."""
    write_parquet([table], table.schema, tmp_path / "table.parquet")
    return ParquetTable(tmp_path / "table.parquet")


def test_texts_come_back(stored, table):
    """Every text, missing ones too, has its place and its type, whole and row group by row group."""
    assert stored.read().equals(table)
    assert pa.concat_tables(stored.batches()).equals(table)
    assert stored.read(["missing", "few"]).equals(table.select(["missing", "few"]))


def test_only_repeating_texts_are_read_as_numbers(stored):
    """Texts that the file has written out are not sought in a dictionary, and fields within others are left alone."""
    read = {field.name for field in stored.parquet_file.schema_arrow if pa.types.is_dictionary(field.type)}
    assert read == {"few", "missing"}


def test_tables_of_others_come_back(table, tmp_path):
    """So does what another program wrote, without our schema; an empty table; and one with a name twice."""
    pq.write_table(table, tmp_path / "theirs", store_schema=False)
    plain = ParquetTable(tmp_path / "theirs")
    assert plain.read().equals(pq.read_table(tmp_path / "theirs"))
    pq.write_table(table.slice(0, 0), tmp_path / "empty")
    assert ParquetTable(tmp_path / "empty").read().equals(table.slice(0, 0))
    twice = pa.Table.from_arrays([table["few"], table["many"]], ["a", "a"])
    pq.write_table(twice, tmp_path / "twice")
    assert ParquetTable(tmp_path / "twice").read().equals(twice)
