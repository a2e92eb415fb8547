"""Tests of inputs that are read in part: columns, batches, and lazy tables."""

import os
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Annotated
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from msgspec.structs import replace

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.errors import ArtifactCorrupt, ArtifactRefused
from airflow_zen.materializers.annotations import Columns
from airflow_zen.transports.read_cache import ReadCache
from tests.materializers.views.loading import collect_apart, load, open_stack, temporary_directory
from tests.servers.flaky import Failure, flaky

ROWS = 400_000


@cache
def wide(rows=ROWS):
    random = np.random.default_rng(3)
    columns = {name: random.standard_normal(rows) for name in "abcd"}
    return pd.DataFrame(columns | {"s": pd.Series(random.choice(["x", "y", None], rows), dtype="str")})


def unusual(rows=10):
    """A frame of dtypes and labels that need metadata."""
    return pd.DataFrame(
        {
            "c": pd.Categorical(["u", "v"] * (rows // 2)),
            "p": pd.period_range("2024", periods=rows, freq="D"),
            "o": pd.Series([{1}, None] * (rows // 2), dtype=object),
        },
        index=pd.MultiIndex.from_product([["k", "l"], range(rows // 2)], names=["first", "second"]),
    )


SAVED = {
    "pandas": wide(),
    "arrow": pa.Table.from_pandas(wide(), preserve_index=False),
    "polars": pl.from_pandas(wide()),
}


@pytest.mark.parametrize("library", SAVED)
def test_batches_together_are_the_table(library, stack):
    """The batches of a table, in the form of any library, are its rows in order."""
    ref = stack.save(SAVED[library]).ref
    frames = list(load(stack, ref, Iterator[pd.DataFrame]))
    assert len(frames) > 1
    pd.testing.assert_frame_equal(pd.concat(frames), wide(), check_dtype=library == "pandas")
    batches = list(load(stack, ref, Iterator[pa.RecordBatch]))
    assert {type(batch) for batch in batches} == {pa.RecordBatch}
    pd.testing.assert_frame_equal(pa.Table.from_batches(batches).to_pandas(), wide(), check_dtype=False)
    assert pl.concat(load(stack, ref, Iterable[pl.DataFrame])).equals(pl.from_pandas(wide()))
    assert load(stack, ref, pa.RecordBatchReader).read_all().num_rows == ROWS


@pytest.mark.parametrize("library", SAVED)
def test_lazy_tables_are_the_table(library, stack):
    """A dataset and a LazyFrame scan the stored file, and have the same rows."""
    ref = stack.save(SAVED[library]).ref
    dataset = load(stack, ref, ds.Dataset)
    assert dataset.count_rows(filter=ds.field("a") > 0) == int((wide()["a"] > 0).sum())
    plan = load(stack, ref, pl.LazyFrame)
    assert plan.filter(pl.col("a") > 0).select(pl.len()).collect().item() == int((wide()["a"] > 0).sum())


@pytest.mark.parametrize("library", SAVED)
def test_columns_are_read_in_their_order(library, stack):
    """Requested columns are returned in the requested order, with their own dtypes."""
    ref = stack.save(SAVED[library]).ref
    frame = load(stack, ref, Annotated[pd.DataFrame, Columns("s", "b")])
    pd.testing.assert_frame_equal(frame, wide()[["s", "b"]], check_dtype=library == "pandas")
    assert load(stack, ref, Annotated[pa.Table, Columns("b")]).column_names == ["b"]
    assert load(stack, ref, Annotated[pl.DataFrame, Columns("b")]).columns == ["b"]
    assert load(stack, ref, Annotated[pd.Series, Columns("b")]).name == "b"
    parts = list(load(stack, ref, Iterator[Annotated[pd.DataFrame, Columns("d")]]))
    assert [list(part.columns) for part in parts] == [["d"]] * len(parts)
    with pytest.raises(ArtifactRefused, match="no column 'z'; it has 'a', 'b'"):
        load(stack, ref, Annotated[pd.DataFrame, Columns("z")])


@pytest.mark.parametrize("library", SAVED)
@pytest.mark.parametrize("wanted", [pd.DataFrame, pl.DataFrame, pa.Table, pa.RecordBatchReader])
def test_all_columns_in_another_order_keep_their_values(library, wanted, stack):
    """Columns requested in another order keep their values."""
    ref, order = stack.save(SAVED[library]).ref, ("b", "a", "s", "d", "c")
    found = load(stack, ref, Annotated[wanted, Columns(*order)])
    table = found.read_all() if wanted is pa.RecordBatchReader else pl.DataFrame(found).to_arrow()
    assert tuple(table.column_names) == order
    assert pl.from_arrow(table).equals(pl.from_pandas(wide()[list(order)]))


def test_lazy_tables_have_only_the_requested_columns(stack):
    """A dataset, a reader and an iterator have only the requested columns, in the requested order."""
    for table in (pa.table({"a": [1], "b": ["x"], "c": [2.5]}), pa.table({"a": [1], "b": ["x"], "c": [[None]]})):
        ref = stack.save(table).ref
        for wanted in (ds.Dataset, pa.RecordBatchReader, Iterator[pa.RecordBatch]):
            found = load(stack, ref, Annotated[wanted, Columns("b", "a")])
            found = next(found) if isinstance(found, Iterator) else found
            assert found.schema.names == ["b", "a"]
        assert load(stack, ref, Annotated[ds.Dataset, Columns("b")]).to_table().to_pydict() == {"b": ["x"]}


@pytest.mark.parametrize("table", [unusual(), pl.DataFrame({"p": [1], "c": pl.Series(["u"], dtype=pl.Categorical)})])
@pytest.mark.parametrize("wanted", [pa.RecordBatchReader, Annotated[pa.RecordBatchReader, Columns("c", "p")]])
def test_categories_are_read_batch_by_batch(table, wanted, stack):
    """A reader tells the schema that its batches have, also where categories come back in another Arrow type."""
    reader = load(stack, stack.save(table).ref, wanted)
    assert reader.schema.equals(reader.read_all().schema)


def test_an_iterator_of_some_columns_stays_an_iterator(stack):
    """`Columns` around an iterator limits its batches, as it does inside."""
    ref = stack.save(SAVED["arrow"]).ref
    parts = list(load(stack, ref, Annotated[Iterator[pd.DataFrame], Columns("d")]))
    assert len(parts) > 1
    assert {tuple(part.columns) for part in parts} == {("d",)}


def test_a_column_named_twice_is_refused():
    """A column that is named twice in `Columns` raises a `TypeError`."""
    with pytest.raises(TypeError, match="each column once"):
        Columns("a", "b", "a")


def test_unusual_frames_are_exact_in_part(stack):
    """Categories, periods, objects, labels and several index levels come back exactly, by column and batch."""
    frame = unusual()
    ref = stack.save(frame).ref
    pd.testing.assert_frame_equal(pd.concat(load(stack, ref, Iterator[pd.DataFrame])), frame)
    pd.testing.assert_frame_equal(load(stack, ref, Annotated[pd.DataFrame, Columns("p")]), frame[["p"]])
    categories = load(stack, ref, Annotated[pa.Table, Columns("c")])
    assert categories.column("c").to_pylist() == list(frame["c"])
    renamed = pd.DataFrame([[1, 2.5, "x"]], columns=pd.Index(["a", "b", "a b"], name="labels"))
    ref = stack.save(renamed).ref
    assert load(stack, ref, Annotated[pd.DataFrame, Columns("b")]).to_dict("list") == {"b": [2.5]}
    numbered = pd.DataFrame({"a": range(5)}, index=pd.RangeIndex(10, 20, 2))
    pd.testing.assert_frame_equal(
        pd.concat(load(stack, stack.save(numbered).ref, Iterator[pd.DataFrame])), numbered, check_index_type=False
    )


@pytest.mark.parametrize(
    "labels",
    [
        pd.Index(["a", "b"], name="labels"),
        pd.Index(["a", "b"], dtype=object),
        pd.Index(["a", "a"]),
        pd.Index(["b", "a"], dtype="category"),
    ],
    ids=["named", "objects", "twice the same", "categories"],
)
def test_some_columns_keep_their_labels(labels, stack):
    """Requested columns keep the name and dtype of their labels; a repeated label selects all its columns."""
    frame = pd.DataFrame([[1, 2.5]], columns=labels)
    found = load(stack, stack.save(frame).ref, Annotated[pd.DataFrame, Columns("a")])
    pd.testing.assert_frame_equal(found, frame[["a"]], check_column_type=True)
    assert (found.columns.name, found.columns.dtype) == (labels.name, labels.dtype)


def test_dataset_has_the_schema_that_was_saved(stack):
    """A dataset has the saved types, also seconds, and no metadata of this package, so that its table can be saved."""
    assert_dataset_is_as_saved(stack)


def test_remote_dataset_has_the_schema_that_was_saved(remote):
    """A dataset on S3 has the saved schema too."""
    assert_dataset_is_as_saved(remote)


def assert_dataset_is_as_saved(stack):
    table = pa.table({"t": pa.array([1, 2], pa.timestamp("s")), "d": pa.array([[1], None], pa.list_(pa.int8()))})
    dataset = load(stack, stack.save(table).ref, ds.Dataset)
    assert dataset.schema.equals(table.schema, check_metadata=True)
    assert dataset.to_table(filter=ds.field("t") > pa.scalar(1, pa.timestamp("s"))).equals(table.slice(1))
    labelled = load(stack, stack.save(pd.DataFrame({"a": [1, 2]}, index=["x", "y"])).ref, ds.Dataset)
    stack.save(labelled.to_table(filter=ds.field("a") > 1))
    enum = pl.DataFrame({"c": pl.Series(["x", "y"], dtype=pl.Categorical)})
    assert load(stack, stack.save(enum).ref, ds.Dataset).to_table().column("c").to_pylist() == ["x", "y"]


def test_scan_of_categories_has_their_values(stack):
    """A dataset or LazyFrame over a frame with categories has the values, not the codes in the file."""
    ref = stack.save(pd.DataFrame({"c": pd.Categorical(["u", "v"])})).ref
    assert load(stack, ref, pl.LazyFrame).collect()["c"].to_list() == ["u", "v"]
    assert load(stack, ref, ds.Dataset).to_table().column("c").to_pylist() == ["u", "v"]


def test_arrow_files_are_read_in_part(stack):
    """Columns and batches of a table in Arrow's own format can be read."""
    table = pa.table({"d": pa.array(range(20), pa.date64()), "e": range(20)})
    ref = stack.save(table).ref
    assert pa.concat_tables(load(stack, ref, Iterator[pa.Table])).equals(table)
    assert load(stack, ref, Annotated[pa.Table, Columns("e")]).equals(table.select(["e"]))
    assert load(stack, ref, ds.Dataset).to_table().equals(table)


def test_empty_tables_have_one_empty_batch(stack):
    """A table without rows has one batch with its columns, from every library."""
    for empty in (wide(0), pa.table({"a": pa.array([], "int8")}), pl.DataFrame(schema={"a": pl.Int8})):
        frames = list(load(stack, stack.save(empty).ref, Iterator[pd.DataFrame]))
        assert [len(frame) for frame in frames] == [0]
        assert "a" in frames[0].columns


def test_columns_of_other_values_are_refused(stack):
    """An `Iterable` that is no table is loaded as the value itself; columns of it are refused."""
    ref = stack.save([1, 2]).ref
    assert load(stack, ref, Iterable[int]) == [1, 2]
    with pytest.raises(ArtifactRefused, match="only tables"):
        load(stack, ref, Annotated[list, Columns("a")])


def test_local_bytes_are_verified_before_a_part_is_read(stack):
    """On a local root a damaged table is refused also where only one of its columns is requested."""
    ref = stack.save(wide(1000)).ref
    path = stack.store.root + ref.uri.removeprefix(stack.store.root) + "/table.parquet"
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        file.seek(100)
        file.write(b"\0\0\0\0")
    with pytest.raises(ArtifactCorrupt):
        load(stack, ref, Annotated[pd.DataFrame, Columns("a")])


def test_remote_tables_are_read_in_part(remote, monkeypatch):
    """Only the bytes of the requested columns of a large table on S3 are fetched."""
    ref = remote.save(wide()).ref
    fetched = []
    transport = type(remote.store.transport)
    original = transport.read_range
    monkeypatch.setattr(transport, "download", None)
    monkeypatch.setattr(
        transport, "read_range", lambda self, key, a, b: fetched.append(b - a) or original(self, key, a, b)
    )
    frame = load(remote, ref, Annotated[pd.DataFrame, Columns("b")])
    pd.testing.assert_frame_equal(frame, wide()[["b"]])
    assert sum(fetched) < ref.size / 3
    dataset = load(remote, ref, ds.Dataset)
    assert dataset.to_table(columns=["s"]).num_rows == ROWS
    parts = load(remote, ref, Iterator[pd.DataFrame])
    fetched.clear()
    next(parts)
    assert sum(fetched) < ref.size * 0.75
    fetched.clear()
    last = parts.skip_to(ROWS - 1)
    pd.testing.assert_frame_equal(next(parts), wide().iloc[last:])
    assert sum(fetched) < ref.size * (1 - last / ROWS) * 1.1
    plan = load(remote, remote.save(pl.from_pandas(wide())).ref, pl.LazyFrame)
    assert collect_apart(plan.select(pl.col("a").sum())).item() == pytest.approx(wide()["a"].sum())


SCANS = {
    "plan": lambda table: collect_apart(table.select(pl.col("a").sum())).item(),
    "dataset": lambda table: pa.compute.sum(table.to_table(columns=["a"]).column("a")).as_py(),
    "filtered dataset": lambda table: table.to_table(filter=ds.field("a") > 1e9, columns=["a"]).num_rows,
}


@pytest.mark.parametrize("kind", SCANS)
@pytest.mark.parametrize("library", SAVED)
def test_a_scan_fetches_only_what_it_needs(library, kind, ceph):
    """A LazyFrame and a dataset on S3 fetch the bytes of the columns that they use, and few others."""
    root = f"{ceph.root}/scans-{os.urandom(4).hex()}"
    with flaky(urlsplit(ceph.endpoint).port) as proxy:
        options = ceph.storage_options()
        options["client_kwargs"]["endpoint_url"] = proxy.uri
        ref = open_stack(root, ceph.storage_options()).save(SAVED[library]).ref
        scanned = load(open_stack(root, options), ref, pl.LazyFrame if kind == "plan" else ds.Dataset)
        answer = SCANS[kind](scanned)
        assert answer == 0 if kind.startswith("filtered") else answer == pytest.approx(wide()["a"].sum())
        assert 0 < proxy.answered < ref.size / 3


def test_remote_table_of_another_size_is_refused(remote):
    """A remote file of another size than recorded is refused before a part of it is used."""
    ref = remote.save(wide()).ref
    key = f"{ref.uri.removeprefix(remote.store.root + '/')}/table.parquet"
    remote.store.transport.write(key, remote.store.transport.read(key)[:-1])
    with pytest.raises(ArtifactCorrupt):
        load(remote, ref, Annotated[pd.DataFrame, Columns("a")])


@pytest.mark.parametrize(
    "value", [wide, lambda: wide().set_axis(pd.RangeIndex(ROWS).astype(str)), lambda: pa.table(wide())]
)
def test_a_large_table_is_read_while_it_is_downloaded(remote, value, monkeypatch):
    """A whole table on S3 is read without a file on the local disk."""
    ref = remote.save(value()).ref
    monkeypatch.setattr(type(remote.store.transport), "download", None)
    loaded = remote.load(ref, into := temporary_directory())
    assert not list(into.iterdir())
    assert loaded.equals(value())
    assert type(loaded) is type(value())


def test_a_download_is_resumed_after_a_broken_connection(ceph):
    """Where a response ends early, the rest is requested, and the table is complete."""
    root = f"{ceph.root}/broken-{os.urandom(4).hex()}"
    ref = open_stack(root, ceph.storage_options()).save(wide()).ref
    with flaky(urlsplit(ceph.endpoint).port) as proxy:
        options = ceph.storage_options()
        options["client_kwargs"]["endpoint_url"] = proxy.uri
        for fail_at in (0, 1):
            proxy.arm(fail_at, Failure.HALF_LOST)
            pd.testing.assert_frame_equal(load(open_stack(root, options), ref, pd.DataFrame), wide())
            assert proxy.requests > 2


DAMAGE = {"floats": 0.25, "compressed": 0.93, "footer": 0.9999}


@pytest.mark.parametrize("where", DAMAGE)
@pytest.mark.parametrize("kind", [pd.DataFrame, pa.Table])
def test_a_damaged_large_table_is_refused(remote, where, kind):
    """Damaged bytes raise `ArtifactCorrupt`, whether a decoder reads them or not."""
    value = wide() if kind is pd.DataFrame else pa.table(wide())
    ref = remote.save(value).ref
    key = f"{ref.uri.removeprefix(remote.store.root + '/')}/table.parquet"
    stored = bytearray(remote.store.transport.read(key))
    at = int(len(stored) * DAMAGE[where])
    stored[at : at + 8] = bytes(byte ^ 255 for byte in stored[at : at + 8])
    remote.store.transport.write(key, bytes(stored))
    with pytest.raises(ArtifactCorrupt, match="damaged"):
        load(remote, ref, kind)


def test_a_cached_table_is_read_from_the_local_disk(remote, tmp_path):
    """A table in the local cache is read from it, also in part."""
    transport = remote.store.transport
    cached = replace(remote, store=ArtifactStore(remote.store.root, transport, ReadCache(tmp_path / "cache", 1 << 30)))
    ref = cached.save(wide()).ref
    load(cached, ref, pd.DataFrame)
    remote.store.transport.delete([f"{ref.uri.removeprefix(remote.store.root + '/')}/table.parquet"])
    frame = load(cached, ref, Annotated[pd.DataFrame, Columns("a")])
    pd.testing.assert_frame_equal(frame, wide()[["a"]])
