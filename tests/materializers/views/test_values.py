"""Tests of views: a table of another library has the same values, also batch by batch, or is refused with a reason."""

import os
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from airflow_zen.errors import ArtifactCorrupt, ArtifactRefused
from airflow_zen.materializers.annotations import Columns
from airflow_zen.transports.read_cache import ReadCache
from tests.materializers.views.loading import load, open_stack

LARGE = 2**60 + 1
MANY = 262_144


INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


@pytest.mark.parametrize("kind", [*INTEGERS, "bool"])
@pytest.mark.parametrize("maker", ["polars", "arrow", "arrow file"])
def test_integers_with_nulls_keep_their_values(stack, kind, maker):
    """Integers do not become floats, and booleans do not become objects."""
    one = True if kind == "bool" else int(np.iinfo(kind).max)
    table = pa.table({"a": pa.array([one, None], kind), "b": pa.array([one, one], kind)})
    if maker == "arrow file":
        table = table.append_column("d", pa.array(["x", "y"]).dictionary_encode())
    ref = stack.save(pl.DataFrame(table) if maker == "polars" else table).ref
    for frame in (load(stack, ref, pd.DataFrame), *load(stack, ref, Iterator[pd.DataFrame])):
        assert frame["a"].tolist() == [one, pd.NA]
        assert frame["b"].tolist() == [one, one]
        assert isinstance(frame["a"].dtype, pd.api.extensions.ExtensionDtype)
        assert frame["b"].dtype == np.dtype(kind)


def test_batches_have_one_dtype_wherever_the_nulls_are(stack):
    """A column has the same dtype in all batches, so that they can be saved batch by batch again."""
    for value in (pl.DataFrame({"a": [1] * MANY + [None]}), pa.table({"a": [1] * MANY + [None]})):
        ref = stack.save(value).ref
        assert [str(part["a"].dtype) for part in load(stack, ref, Iterator[pd.DataFrame])] == ["Int64", "Int64"]
        again = stack.save(load(stack, ref, Iterator[pd.DataFrame])).ref
        assert load(stack, again, None)["a"].isna().sum() == 1


def test_repeated_names_and_row_labels_keep_their_positions(stack):
    """Nullable columns are found by position, and by name beside row labels."""
    twice = pa.Table.from_arrays([pa.array([LARGE, None]), pa.array([1, 2])], ["a", "a"])
    frame = load(stack, stack.save(twice).ref, pd.DataFrame)
    assert [str(dtype) for dtype in frame.dtypes] == ["Int64", "int64"]
    labelled = pd.DataFrame({"a": [1.0, 2.0]}, index=pd.Index([7, 8], name="n"))
    table = pa.Table.from_pandas(labelled).append_column("b", pa.array([LARGE, None]))
    frame = load(stack, stack.save(table).ref, pd.DataFrame)
    assert frame.index.tolist() == [7, 8]
    assert frame["b"].tolist() == [LARGE, pd.NA]


@pytest.mark.parametrize(
    ("early", "late"),
    [(None, ["x"]), (1, 1.5), (None, "x"), (None, {"a": 1})],
    ids=["lists", "numbers", "texts", "dicts"],
)
def test_objects_that_differ_from_part_to_part_are_one_column(stack, early, late):
    """A dataset over a column of objects has a type that fits all of them."""
    ref = stack.save(pd.DataFrame({"o": pd.Series([early] * MANY + [late], dtype=object)})).ref
    assert load(stack, ref, ds.Dataset).to_table()["o"].to_pylist()[MANY - 1 :] == [early, late]
    assert load(stack, ref, pa.RecordBatchReader).read_all()["o"].to_pylist()[MANY - 1 :] == [early, late]
    assert [part.schema.field("o").type for part in load(stack, ref, Iterator[pa.Table])] == [
        load(stack, ref, ds.Dataset).schema.field("o").type
    ] * 2


@pytest.mark.parametrize("wanted", [pl.DataFrame, pa.Table, ds.Dataset, pd.DataFrame])
def test_columns_are_read_beside_unconvertible_ones(stack, wanted):
    """A column can be read where other columns of the table cannot be converted."""
    ref = stack.save(pd.DataFrame({"c": [1j, 2j], "x": [0.5, 1.5]})).ref
    found = load(stack, ref, Annotated[wanted, Columns("x")])
    table = found.to_table() if wanted is ds.Dataset else found
    assert list(table["x"]) == [0.5, 1.5] or table["x"].to_pylist() == [0.5, 1.5]


def test_a_series_is_loaded_as_a_frame_where_requested(stack, remote):
    """A local or remote series is loaded as a frame of one column on request, and else as a series."""
    for where, rows in ((stack, 3), (remote, 1_200_000)):
        series = pd.Series(np.random.default_rng(0).standard_normal(rows), name="x")
        ref = where.save(series).ref
        pd.testing.assert_frame_equal(load(where, ref, pd.DataFrame), series.to_frame())
        pd.testing.assert_series_equal(load(where, ref, None), series)
    ref = stack.save(pl.Series("x", [1, 2])).ref
    assert load(stack, ref, pl.DataFrame).equals(pl.DataFrame({"x": [1, 2]}))
    assert isinstance(load(stack, ref, pl.Series), pl.Series)


NO_FORM = {
    "mixed": pd.DataFrame({"m": pd.Series([1, "a"], dtype=object)}),
    "complex": pd.DataFrame({"c": [1j]}),
    "sparse": pd.DataFrame({"s": pd.arrays.SparseArray([0, 1])}),
    "twice": pd.DataFrame([range(5_000)], columns=["a"] * 5_000),
}


@pytest.mark.parametrize("value", NO_FORM.values(), ids=NO_FORM.keys())
@pytest.mark.parametrize("wanted", [pl.DataFrame, pl.LazyFrame, pa.Table, ds.Dataset, Iterator[pa.RecordBatch]])
def test_unconvertible_tables_are_refused_with_a_remedy(stack, value, wanted):
    """The error says what was requested; as the saved type, and without a type, the table is loaded."""
    ref = stack.save(value).ref
    with pytest.raises(ArtifactRefused, match=r"pandas\.parquet@1 cannot be loaded as .*convert it\.$") as refused:
        list(load(stack, ref, wanted))
    assert len(str(refused.value)) < 600
    assert load(stack, ref, pd.DataFrame).equals(value)
    assert load(stack, ref, None).equals(value)


def test_a_table_and_a_dataset_of_it_have_the_same_types(stack):
    """A column has the type that it was written from, in a table and in a dataset."""
    frame = pd.DataFrame({"d": pd.to_datetime(["2024"]).astype("datetime64[s]"), "s": ["a"]})
    ref = stack.save(frame).ref
    assert load(stack, ref, pa.Table).schema.equals(load(stack, ref, ds.Dataset).schema)


@pytest.fixture
def kept(moto, tmp_path):
    """A stack on S3 with a local cache, its root, and its server."""
    root = f"{moto.root}/{os.urandom(4).hex()}"
    return open_stack(root, moto.storage_options(), ReadCache(tmp_path / "cache", 1 << 30)), root, moto


def rows_of(found):
    if isinstance(found, pl.LazyFrame):
        return found.collect().height
    if isinstance(found, ds.Dataset):
        return found.count_rows()
    return len(found) if isinstance(found, pd.DataFrame) else sum(map(len, found))


@pytest.mark.parametrize(
    "wanted", [Annotated[pd.DataFrame, Columns("x")], Iterator[pd.DataFrame], pl.LazyFrame, ds.Dataset]
)
@pytest.mark.parametrize("cached", [True, False])
def test_a_part_of_a_table_with_files_beside_it_is_fetched_once(kept, wanted, cached, monkeypatch):
    """A table of many categories is several files, each of which is downloaded once, whatever is requested."""
    stack, root, server = kept
    stack = stack if cached else open_stack(root, server.storage_options())
    frame = pd.DataFrame({"x": range(20_000), "c": pd.Categorical([f"k{n}" for n in range(20_000)])})
    ref = stack.save(frame).ref
    fetched = []
    download = type(stack.store.transport).download

    def counted(self, key, path, like):
        fetched.append(key)
        return download(self, key, path, like)

    monkeypatch.setattr(type(stack.store.transport), "download", counted)
    assert rows_of(load(stack, ref, wanted)) == 20_000
    assert len(fetched) == len(set(fetched)) > 1


@pytest.mark.parametrize("left", [0, 100, 0.5, -100, -1])
def test_a_truncated_table_is_detected(remote, left):
    """A truncated table is reported as damaged, wherever it ends and however it is read."""
    frame = pd.DataFrame({f"f{n}": np.random.default_rng(n).standard_normal(300_000) for n in range(5)})
    ref = remote.save(frame).ref
    key = remote.store.key_of(ref, "table.parquet")
    data = remote.store.transport.read(key)
    remote.store.transport.write(key, data[: int(len(data) * left) if isinstance(left, float) else left or 0])
    for wanted in (pd.DataFrame, Annotated[pd.DataFrame, Columns("f1")], Iterator[pd.DataFrame]):
        with pytest.raises(ArtifactCorrupt, match="damaged"):
            list(load(remote, ref, wanted))
    assert remote.save(frame).ref == ref
    pd.testing.assert_frame_equal(load(remote, ref, pd.DataFrame), frame)


@pytest.mark.parametrize("place", [slice(-60, -20), slice(0, 200)], ids=["footer", "pages"])
def test_damage_in_a_part_is_detected(remote, place):
    """A table that is read in part, without its hash, is reported as damaged where it cannot be decoded."""
    frame = pd.DataFrame({"f": np.random.default_rng(0).standard_normal(1_200_000), "s": ["a"] * 1_200_000})
    ref = remote.save(frame).ref
    key = remote.store.key_of(ref, "table.parquet")
    data = bytearray(remote.store.transport.read(key))
    data[place] = b"\xff" * len(data[place])
    remote.store.transport.write(key, bytes(data))
    with pytest.raises(ArtifactCorrupt, match=r"table\.parquet differs .*Run the step that made it again"):
        list(load(remote, ref, Annotated[pd.DataFrame, Columns("f")]))
