"""Tests of `airflow_zen.materializers.arrow.parquet_reader`: copied values are those of a decoder, other pages are decoded."""

import io
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_zen.artifacts.hashing import FileHash
from airflow_zen.artifacts.reader import VerifiedStream
from airflow_zen.artifacts.ref import ArtifactFile
from airflow_zen.errors import ArtifactCorrupt
from airflow_zen.materializers.arrow import parquet_writer
from airflow_zen.materializers.arrow.parquet_reader import ParquetTable, PlainColumn, ThriftCompactReader
from airflow_zen.materializers.pandas.frames import load_pandas
from tests.materializers.pandas_values import ROWS
from tests.materializers.round_trip import REGISTRY
from tests.materializers.sameness import assert_same

pytestmark = pytest.mark.skipif(sys.byteorder == "big", reason="nothing is copied on big-endian machines")

PLAIN = {"use_dictionary": False, "compression": "none"}
NUMBERS = {
    "float64": np.array([0.5, -0.0, np.inf, -np.inf, 5e-324] * 2_000),
    "float32": np.array([0.5, -0.0, np.inf, 1e-45, 3.0] * 2_000, "float32"),
    "int64": np.array([0, -1, 2**63 - 1, -(2**63), 7] * 2_000),
    "uint64": np.array([0, 1, 2**64 - 1, 2**63, 7] * 2_000, "uint64"),
    "int32": np.array([0, -1, 2**31 - 1, -(2**31), 7] * 2_000, "int32"),
    "uint32": np.array([0, 1, 2**32 - 1, 2**31, 7] * 2_000, "uint32"),
    "datetime64[us]": np.array([0, 1, -1, 2**40, 7] * 2_000, "datetime64[us]"),
    "timedelta64[ns]": np.array([0, 1, -1, 2**40, 7] * 2_000, "timedelta64[ns]"),
}


def write_row_groups(table, path, **options):
    """Write a table in row groups of 3,000 rows, and open it."""
    pq.write_table(table, path, row_group_size=3_000, **{**PLAIN, **options})
    return ParquetTable(path)


def read_into_targets(stored, dtypes):
    """Read a table into targets; return these, and the names that were copied from each row group."""
    targets = {name: np.full(stored.num_rows, 9, dtype) for name, dtype in dtypes.items()}
    copied = []
    for rows in stored.read_into(targets):
        copied.append(set(rows.copied))
        assert not rows.copied & set(rows.decoded.column_names)
        for name in dtypes.keys() - rows.copied:
            column = rows.decoded[name].to_numpy()
            targets[name][rows.offset : rows.offset + len(column)] = column
    return targets, copied


@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.parametrize("size", [1_000, 1 << 20])
def test_numbers_are_copied_bit_by_bit(tmp_path, nullable, size):
    """Numbers of every dtype are copied from one page or many, whether the column is nullable or not."""
    fields = [pa.field(name, pa.array(values).type, nullable) for name, values in NUMBERS.items()]
    table = pa.table([pa.array(values) for values in NUMBERS.values()], pa.schema(fields))
    targets, copied = read_into_targets(
        write_row_groups(table, tmp_path / "t", data_page_size=size), {n: v.dtype for n, v in NUMBERS.items()}
    )
    assert copied == [set(NUMBERS)] * 4
    assert all(targets[name].tobytes() == values.tobytes() for name, values in NUMBERS.items())


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"compression": "zstd"}, id="compressed"),
        pytest.param({"use_dictionary": True}, id="dictionary"),
        pytest.param({"column_encoding": {"x": "BYTE_STREAM_SPLIT"}}, id="split"),
        pytest.param({"data_page_version": "2.0"}, id="pages of version 2"),
    ],
)
def test_encoded_pages_are_decoded(tmp_path, options):
    """Compressed and otherwise encoded columns are read by Arrow."""
    values = NUMBERS["float64"]
    targets, copied = read_into_targets(
        write_row_groups(pa.table({"x": values}), tmp_path / "t", **options), {"x": "float64"}
    )
    assert copied == [set()] * 4
    assert targets["x"].tobytes() == values.tobytes()


@pytest.mark.parametrize("statistics", [True, False])
def test_a_row_group_with_a_null_is_decoded(tmp_path, statistics):
    """Only the row group with the null is decoded, also where the file has no statistics."""
    values = [1.5] * 10_000
    values[4_500] = None
    stored = write_row_groups(
        pa.table({"x": values}), tmp_path / "t", write_statistics=statistics, data_page_size=1_000
    )
    targets, copied = read_into_targets(stored, {"x": "float64"})
    assert copied == [{"x"}, set(), {"x"}, {"x"}]
    assert np.flatnonzero(np.isnan(targets["x"])).tolist() == [4_500]
    assert np.nansum(targets["x"]) == 1.5 * 9_999


def test_a_target_of_another_width_or_type_is_not_copied_to(tmp_path):
    """A column that parquet stores in another width or unit is decoded and converted."""
    table = pa.table({"x": np.arange(10_000, dtype="int8"), "s": pa.array(range(10_000), pa.timestamp("s"))})
    targets, copied = read_into_targets(write_row_groups(table, tmp_path / "t"), {"x": "int8", "s": "datetime64[s]"})
    assert copied == [set()] * 4
    assert targets["s"].astype("int64").tolist() == list(range(10_000))
    assert targets["x"].tolist() == table["x"].to_pylist()


def test_ambiguous_names_are_decoded(tmp_path):
    """A column whose name is repeated, or could be the path of a nested column, is decoded."""
    values = NUMBERS["float64"]
    within = pa.StructArray.from_arrays([pa.array(values + 1)], ["b"])
    dotted = write_row_groups(pa.table({"a": within, "a.b": values}), tmp_path / "dotted")
    assert [rows.copied for rows in dotted.read_into({"a.b": np.empty(10_000)})] == [frozenset()] * 4
    twice = write_row_groups(
        pa.Table.from_arrays([pa.array(values), pa.array(values + 1)], ["x", "x"]), tmp_path / "twice"
    )
    assert [rows.copied for rows in twice.read_into({"x": np.empty(10_000)})] == [frozenset()] * 4


def test_only_requested_columns_are_copied(tmp_path):
    """Only the named columns are read, in copied and decoded form."""
    stored = write_row_groups(
        pa.table({"x": NUMBERS["float64"], "n": NUMBERS["int64"], "s": ["a"] * 10_000}), tmp_path / "t"
    )
    target = np.empty(10_000)
    found = list(stored.read_into({"x": target}, ["s", "x"]))
    assert [(rows.offset, rows.decoded.column_names, rows.copied) for rows in found] == [
        (at, ["s"], {"x"}) for at in (0, 3_000, 6_000, 9_000)
    ]
    assert target.tobytes() == NUMBERS["float64"].tobytes()


def test_a_frame_of_numbers_only_comes_back(tmp_path):
    """A frame of which every column is copied and none decoded has all its rows."""
    frame = pd.DataFrame({f"f{n}": np.random.default_rng(n).standard_normal(700_000) for n in range(3)})
    saved = REGISTRY.save(frame, tmp_path)
    stored = ParquetTable(tmp_path / "table.parquet")
    assert {rows.copied for rows in stored.read_into({name: np.empty(700_000) for name in frame})} == {frozenset(frame)}
    assert_same(frame, REGISTRY.load(tmp_path, saved.encoding))


KINDS = [*NUMBERS, "bool", "text", "dictionary", "list"]
OPTIONS = st.fixed_dictionaries(
    {
        "compression": st.sampled_from(["none", "none", "zstd"]),
        "use_dictionary": st.booleans(),
        "write_statistics": st.booleans(),
        "data_page_version": st.sampled_from(["1.0", "1.0", "2.0"]),
        "data_page_size": st.sampled_from([16, 200, 1 << 20]),
        "row_group_size": st.integers(1, 80),
    }
)


@st.composite
def random_tables(draw):
    """A table of up to 100 rows, whose columns have random bits, nulls, and types that are copied and that are not."""
    rows, random = draw(st.integers(0, 100)), np.random.default_rng(draw(st.integers(0, 2**32)))
    fields, arrays = [], []
    for at, kind in enumerate(draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5))):
        mask = random.random(rows) < draw(st.sampled_from([0, 0, 0.05, 1]))
        if kind in NUMBERS:
            values = random.bytes(rows * np.dtype(kind).itemsize)
            array = pa.array(np.frombuffer(values, kind), mask=mask)
        else:
            texts = [None if missing else str(n) for n, missing in zip(random.integers(0, 5, rows), mask, strict=True)]
            array = {
                "bool": pa.array(random.random(rows) < 0.5, mask=mask),
                "text": pa.array(texts, pa.string()),
                "dictionary": pa.array(texts, pa.string()).dictionary_encode(),
                "list": pa.array([[text] for text in texts], pa.list_(pa.string())),
            }[kind]
        fields.append(pa.field(f"{kind} {at}", array.type, nullable=bool(array.null_count) or draw(st.booleans())))
        arrays.append(array)
    return pa.table(arrays, pa.schema(fields))


def as_text(column):
    """The values of a column as text, in which NaN equals itself; times as numbers, since Python has not all of them."""
    numbers = column.cast(pa.int64()) if pa.types.is_temporal(column.type) else column
    return repr(numbers.to_pylist())


@settings(deadline=None, max_examples=100)
@given(random_tables(), OPTIONS)
def test_any_table_is_read_as_arrow_reads_it(table, options):
    """Random tables in several row groups have, bit by bit, the values that pyarrow reads, copied or decoded."""
    with tempfile.TemporaryDirectory() as directory:
        pq.write_table(table, path := Path(directory, "table.parquet"), **options)
        expected, stored = pq.read_table(path), ParquetTable(path)
        dtypes = {name: name.partition(" ")[0] for name in table.column_names if name.partition(" ")[0] in NUMBERS}
        targets = {name: np.zeros(len(table), dtype) for name, dtype in dtypes.items()}
        rows = 0
        for group in stored.read_into(targets):
            size = min(options["row_group_size"], len(table) - group.offset)
            assert group.copied | set(group.decoded.column_names) == set(table.column_names)
            for name in table.column_names:
                column = expected[name].slice(group.offset, size)
                if name in group.copied:
                    copied = targets[name][group.offset : group.offset + size]
                    assert copied.tobytes() == column.to_numpy().tobytes(), name
                else:
                    assert as_text(group.decoded[name]) == as_text(column), name
            rows += size
        assert rows == len(table)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_pages_never_write_outside_the_target(data):
    """Whatever the bytes are, nothing outside the target is written."""
    file = io.BytesIO()
    pq.write_table(pa.table({"x": np.arange(400, dtype="float64")}), file, data_page_size=500, **PLAIN)
    column = PlainColumn.from_footer(pq.read_metadata(file), 0, 0)
    damaged = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(4, 120))] = data.draw(st.integers(0, 255))
    around = np.full(404, -1.0)
    column.read_into(io.BytesIO(bytes(damaged[: data.draw(st.integers(0, len(damaged)))])), around[2:402])
    assert around[[0, 1, -2, -1]].tolist() == [-1.0] * 4


@pytest.mark.parametrize("value", ROWS.values(), ids=ROWS.keys())
def test_every_column_comes_back_from_plain_pages(value, tmp_path, monkeypatch):
    """Whatever a column holds, it comes back the same from a file without compression and dictionaries."""
    monkeypatch.setattr(parquet_writer, "row_group_size", lambda schema: 2)
    monkeypatch.setattr(parquet_writer, "compression_options", lambda group: {"compression": "none"})
    monkeypatch.setattr(parquet_writer, "encoding_options", lambda group: {"use_dictionary": False})
    saved = REGISTRY.save(value, tmp_path)
    assert_same(value, REGISTRY.load(tmp_path, saved.encoding))


def test_damaged_bytes_of_a_downloaded_frame_are_detected(tmp_path):
    """A wrong value is detected by the hash, though it is copied and not decoded."""
    frame = pd.DataFrame({"x": np.arange(300_000) + 0.1})
    REGISTRY.save(frame, tmp_path)
    data = (tmp_path / "table.parquet").read_bytes()
    known = FileHash()
    known.update(data)
    described = ArtifactFile("table.parquet", len(data), known.text)

    class Transport:
        def read_range(self, key, start, end):
            return data[start:end]

    def load(sent):
        pieces = (memoryview(sent)[at : at + 65_536] for at in range(0, len(sent), 65_536))
        with VerifiedStream(Transport(), "key", pieces, described) as stream:
            return load_pandas(REGISTRY.for_type(pd.DataFrame), stream, None)

    assert_same(frame, load(data))
    with pytest.raises(ArtifactCorrupt):
        load(data[:1_000] + b"\1" + data[1_001:])


def test_thrift_types_of_page_headers_are_read():
    """Integers of several bytes and negative ones, distant field numbers, booleans, texts, doubles and structs are read."""
    inner = bytes([0x15, 0xFF, 0xFF, 0x03, 0x11, 0x12, 0x00])
    data = (
        bytes([0x15, 0x01, 0x2C]) + inner + bytes([0x18, 0x03]) + b"abc" + bytes([0x07, 0x80, 0x01]) + bytes(8) + b"\0!"
    )
    reader = ThriftCompactReader(data)
    assert reader.read_struct() == {1: -1, 3: {1: -32768, 2: True, 3: False}, 4: None, 64: None}
    assert data[reader.position :] == b"!"
    with pytest.raises(ValueError, match="kind 9"):
        ThriftCompactReader(bytes([0x19, 0x00])).read_struct()
    with pytest.raises(IndexError):
        ThriftCompactReader(bytes([0x15])).read_struct()
