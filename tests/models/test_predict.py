"""Promises of `airflow_zen.models.predict`: what a model predicts for a table, batch by batch."""

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal
from sklearn.linear_model import LinearRegression, LogisticRegression

from airflow_zen.errors import InputError
from airflow_zen.materializers.arrow import parquet_writer
from airflow_zen.materializers.registry import default_registry
from airflow_zen.models.predict import predict_batches, predict_flavor, predict_frame
from tests.materializers.views.loading import open_stack

FRAME = pd.DataFrame({"flight": [f"f{at}" for at in range(10)], "x": np.arange(10.0), "y": np.arange(10.0)[::-1]})
LINE = LinearRegression().fit(FRAME[["x"]], 2 * FRAME["x"])
SUM = SimpleNamespace(predict=lambda frame: frame.sum(axis="columns"))


@pytest.mark.parametrize("sizes", [(10,), (3, 4, 3), (1, 0, 9)])
@pytest.mark.parametrize("batch_rows", [2, 100])
def test_batches_of_any_size_give_the_predictions_of_the_table(sizes, batch_rows):
    """However a table is cut, each row has its label, its keys and its prediction, and no batch is larger than asked."""
    frame = FRAME.set_axis(pd.Index([f"row {at}" for at in range(10)], name="label"))
    ends = np.cumsum(sizes)
    cut = [frame.iloc[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    found = [*predict_batches(LINE, iter(cut), keys=["flight"], batch_rows=batch_rows)]
    assert max(map(len, found)) <= batch_rows
    expected = frame[["flight"]].assign(prediction=LINE.predict(FRAME[["x"]]))
    assert_frame_equal(pd.concat(found), expected)


@pytest.mark.parametrize("parts", [1, 3, 12])
def test_parts_are_the_whole_table_once(parts):
    """The parts, one after the other, have each row once, and those without rows the same columns."""
    bounds = [10 * at // parts for at in range(parts + 1)]
    found = [
        [*predict_batches(LINE, iter([FRAME[:4], FRAME[4:]]), keys=["flight"], part=part)] for part in pairwise(bounds)
    ]
    assert all(found)
    assert_frame_equal(
        pd.concat([frame for each in found for frame in each]),
        FRAME[["flight"]].assign(prediction=LINE.predict(FRAME[["x"]])),
    )


def test_a_part_does_not_read_what_follows_it():
    """The table is read up to the last row of the part, and not further."""

    def batches():
        yield FRAME
        pytest.fail("The part has ended.")

    assert len(next(predict_batches(LINE, batches(), part=(0, 10)))) == 10
    assert sum(map(len, predict_batches(LINE, batches(), part=(0, 10)))) == 10


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Open a stored table of 40 row groups, pandas' or Arrow's; note each row group that is read."""
    monkeypatch.setattr(parquet_writer, "MAX_ROW_GROUP_SIZE", 1024)
    rows, read = 40 * 1024, []
    wide = pd.DataFrame({f"x{at}": np.arange(rows, dtype=float) for at in range(8)})
    stack = open_stack(str(tmp_path / "root"), {})
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, group, **options: read.append(group) or original(self, group, **options),
    )

    def open_table(library):
        ref = stack.save(wide if library == "pandas" else pa.Table.from_pandas(wide)).ref
        return stack.load(ref, tmp_path / "into", Iterator[pd.DataFrame])

    return open_table, wide, read


@pytest.mark.parametrize("library", ["pandas", "pyarrow"])
def test_parts_divide_the_reading(groups, library):
    """A part reads the row groups of its rows, and no others; its rows keep their numbers."""
    open_table, wide, read = groups
    found = []
    for part in pairwise([0, 10_000, 20_000, 30_000, len(wide)]):
        read.clear()
        found += predict_batches(SUM, open_table(library), part=part)
        assert read == [*range(part[0] // 1024, -(-part[1] // 1024))]
    assert_frame_equal(pd.concat(found), wide.sum(axis=1).to_frame("prediction"), check_index_type=False)


@pytest.mark.parametrize("library", ["pandas", "pyarrow"])
def test_one_batch_is_in_memory(groups, library):
    """However large a table is, predicting it needs the memory of a few of its row groups."""
    open_table, wide, _ = groups
    table = open_table(library)
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    batches = predict_batches(SUM, table, batch_rows=256)
    peaks = [tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes() - before for _ in batches]
    tracemalloc.stop()
    assert len(peaks) == 160
    assert max(peaks) < wide.memory_usage(index=False).sum() / 8


def test_forms_of_predictions():
    """Probabilities have the names of their classes, several values numbers, and frames the columns of the model."""
    classes = LogisticRegression().fit(FRAME[["x"]], ["late" if x > 4 else "early" for x in FRAME["x"]])
    assert [*predict_frame(classes, FRAME)["prediction"]] == [*classes.predict(FRAME[["x"]])]
    probabilities = predict_frame(classes, FRAME, method="predict_proba")
    assert [*probabilities.columns] == ["probability_early", "probability_late"]
    both = LinearRegression().fit(FRAME[["x"]], FRAME[["x", "y"]])
    assert [*predict_frame(both, FRAME).columns] == ["prediction_0", "prediction_1"]
    own = predict_frame(LINE, FRAME, ["flight"], method=lambda model, rows: pd.DataFrame({"low": rows["x"] - 1}))
    assert [*own.columns] == ["flight", "low"]
    assert "prediction" in predict_frame(LINE, FRAME, method=lambda model, rows: rows["x"])


@pytest.mark.ml
def test_onnx_model_predicts_columns_by_the_names_of_its_outputs(tmp_path):
    """An ONNX model gets the values of the columns; each output is a column, or several."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: make test-ml")
    from onnx import TensorProto, helper

    floats = {"x": 2, "y": 1, "z": 2}
    x, y, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, floats[name]]) for name in floats)
    weights = helper.make_tensor("w", TensorProto.FLOAT, [2, 1], [1.0, 2.0])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    graph = helper.make_graph(nodes, "graph", [x], [y, z], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    default_registry().save(model, tmp_path)
    (found,) = predict_flavor(tmp_path, iter([FRAME]), keys=["flight"])
    expected = FRAME[["flight"]].assign(y=FRAME["x"] + 2 * FRAME["y"], z_0=-FRAME["x"], z_1=-FRAME["y"])
    assert_frame_equal(found, expected, check_dtype=False)


def test_features_of_a_model_without_names():
    """A model that names no features gets those that are given, or else all but the keys."""
    unnamed = LinearRegression().fit(FRAME[["x", "y"]].to_numpy(), FRAME["x"])
    expected = unnamed.predict(FRAME[["x", "y"]].to_numpy())
    np.testing.assert_allclose(predict_frame(unnamed, FRAME, ["flight"])["prediction"], expected)
    np.testing.assert_allclose(predict_frame(unnamed, FRAME, features=["x", "y"])["prediction"], expected)


def test_empty_table_has_no_predictions():
    """A table without rows is a table of predictions without rows."""
    (found,) = predict_batches(LINE, iter([FRAME[:0]]), keys=["flight"])
    assert [*found.columns] == ["flight", "prediction"]
    assert len(found) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keys": ["z"]}, "no column 'z', of keys"),
        ({"features": ["z"]}, "no column 'z', of features"),
        ({"method": "transform"}, "has no method 'transform'"),
        ({"method": lambda model, rows: rows["x"][:3]}, "predicts 3 rows for 10"),
        ({"method": lambda model, rows: np.zeros((10, 2, 2))}, "shape"),
        ({"keys": ["x"], "method": lambda model, rows: rows[["x"]]}, "Rename the key"),
    ],
)
def test_what_is_no_prediction_for_each_row_is_refused(options, message):
    """Missing columns, models that cannot predict, and predictions of other rows are errors in words."""
    with pytest.raises(InputError, match=message):
        predict_frame(LINE, FRAME, **options)
