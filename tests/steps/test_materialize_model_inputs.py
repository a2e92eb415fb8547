"""Promises of `airflow_zen.steps.materialize`: a model is described by the columns that it was fitted on."""

import lightgbm
import mlflow
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xgboost
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from airflow_zen.lineage.mlflow.models import completed_files
from airflow_zen.materializers.registry import default_registry
from airflow_zen.runs.step_run import CacheState
from airflow_zen.steps.materialize import describe_model_input
from airflow_zen.steps.step import Step

FRAME = pd.DataFrame(
    {"age": np.arange(8.0), "calls": range(8), "day": pd.date_range("2026-01-01", periods=8), "left": [0, 1] * 4}
)
FEATURES = ["calls", "age"]


def booster(table, target):
    return xgboost.train({"nthread": 1}, xgboost.DMatrix(table, target), 2)


@pytest.mark.parametrize(
    "fit",
    [
        LinearRegression().fit,
        make_pipeline(StandardScaler(), LinearRegression()).fit,
        GridSearchCV(LinearRegression(), {"fit_intercept": [True]}, cv=2).fit,
        xgboost.XGBRegressor(n_estimators=2, n_jobs=1).fit,
        booster,
        lightgbm.LGBMRegressor(n_estimators=2, n_jobs=1, verbose=-1).fit,
    ],
    ids=["estimator", "pipeline", "search", "xgboost", "booster", "lightgbm"],
)
def test_the_features_of_a_model(fit):
    """A model's features have the names, order and types of its table, without the target, and its first rows."""
    described = describe_model_input(fit(FRAME[FEATURES], FRAME["left"]), [1, "x", None, FRAME], with_rows=True)
    assert described == {
        "columns": [{"name": "calls", "type": "int64"}, {"name": "age", "type": "float64"}],
        "rows": [[n, float(n)] for n in range(5)],
    }


@pytest.mark.parametrize("convert", [pl.from_pandas, pa.Table.from_pandas], ids=["polars", "arrow"])
def test_tables_of_other_libraries(convert):
    """Tables of Polars and Arrow are described as those of pandas are."""
    model = LinearRegression().fit(FRAME[FEATURES], FRAME["left"])
    described = describe_model_input(model, [convert(FRAME)], with_rows=True)
    assert [column["type"].lower() for column in described["columns"]] == ["int64", "float64"]
    assert described["rows"][4] == [4, 4.0]


def test_what_has_no_description():
    """A model that is not fitted, and one whose columns or array no argument has, are not described."""
    named = LinearRegression().fit(FRAME[FEATURES], FRAME["left"])
    plain = LinearRegression().fit(FRAME[FEATURES].to_numpy(), FRAME["left"])
    own = LinearRegression().fit(FRAME[FEATURES].add_prefix("own_"), FRAME["left"])
    for model in (plain, own, LinearRegression(), xgboost.XGBRegressor(), "text", {"feature_names": ["age"]}):
        assert describe_model_input(model, [FRAME], with_rows=True) == {}
    arrays = [FRAME.to_numpy(), np.zeros(2), np.zeros((2, 2, 2))]
    assert describe_model_input(named, [FRAME[["age"]], *arrays, [FRAME]], with_rows=True) == {}
    assert describe_model_input(plain, [FRAME[FEATURES], *arrays], with_rows=True) == {}


ARRAY = FRAME[FEATURES].to_numpy().astype("float32")


@pytest.mark.parametrize(
    "fit",
    [
        LinearRegression().fit,
        make_pipeline(StandardScaler(), LinearRegression()).fit,
        xgboost.XGBRegressor(n_estimators=2, n_jobs=1).fit,
        lightgbm.LGBMRegressor(n_estimators=2, n_jobs=1, verbose=-1).fit,
    ],
    ids=["estimator", "pipeline", "xgboost", "lightgbm"],
)
@pytest.mark.parametrize(
    "around", [lambda x: [x], lambda x: [(x, 1)], lambda x: [{"x": x}]], ids=["array", "tuple", "dict"]
)
def test_the_array_that_a_model_takes(fit, around):
    """A model that was fitted on an array has its type, its number of features, and its first rows."""
    model = fit(ARRAY, FRAME["left"])
    described = describe_model_input(model, [np.arange(3), FRAME, *around(ARRAY)], with_rows=True)
    assert described == {"shape": [-1, 2], "dtype": "float32", "rows": ARRAY[:5].tolist()}
    assert "rows" not in describe_model_input(model, around(ARRAY), with_rows=False)
    assert "rows" not in describe_model_input(model, around(np.full((2, 2), np.nan)), with_rows=True)


@pytest.mark.ml
def test_tensors_of_torch():
    """A tensor among the arguments is described as an array is."""
    torch = pytest.importorskip("torch")
    model = LinearRegression().fit(ARRAY, FRAME["left"])
    described = describe_model_input(model, [torch.from_numpy(ARRAY)], with_rows=True)
    assert described == {"shape": [-1, 2], "dtype": "float32", "rows": ARRAY[:5].tolist()}


@pytest.mark.ml
def test_inputs_that_keras_knows():
    """A Keras model knows shape and type of its input; an argument of that shape has the rows, and its own type."""
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert describe_model_input(model, [FRAME], with_rows=True) == {"shape": [-1, 2], "dtype": "float32"}
    described = describe_model_input(model, [ARRAY.astype("float64")], with_rows=True)
    assert described == {"shape": [-1, 2], "dtype": "float64", "rows": ARRAY[:5].astype("float64").tolist()}


@pytest.mark.ml
@pytest.mark.parametrize("as_dict", [False, True])
def test_several_inputs_that_keras_knows(as_dict, tmp_path):
    """A Keras model of several inputs is described by their names, and MLflow predicts from the example."""
    keras = pytest.importorskip("keras")
    inputs = {"wide": keras.Input((3,), name="wide"), "deep": keras.Input((2,), name="deep")}
    joined = keras.layers.Concatenate()([*inputs.values()])
    model = keras.Model(inputs if as_dict else [*inputs.values()], keras.layers.Dense(1)(joined))
    wide = np.arange(24, dtype="float32").reshape(8, 3)
    described = describe_model_input(model, [FRAME, {"deep": ARRAY}, wide], with_rows=True)
    assert described == {
        "inputs": [
            {"name": name, "shape": [-1, size], "dtype": "float32"} for name, size in (("wide", 3), ("deep", 2))
        ],
        "rows": {"wide": wide[:5].tolist(), "deep": ARRAY[:5].tolist()},
    }
    assert "rows" not in describe_model_input(model, [wide], with_rows=True)
    saved = default_registry().save(model, tmp_path)
    files = completed_files((tmp_path / "MLmodel").read_text(), saved.summary["environment"], described)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    loaded = mlflow.pyfunc.load_model(str(tmp_path))
    expected = model.predict({"wide": wide[:5], "deep": ARRAY[:5]}, verbose=0)
    np.testing.assert_allclose(loaded.predict(loaded.input_example), expected, rtol=1e-6)
    with pytest.raises(mlflow.MlflowException, match="deep"):
        loaded.predict({"wide": wide})


@pytest.mark.ml
def test_inputs_that_onnx_knows():
    """An ONNX model knows shape and type of its input; weights are none."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    taken, made = (helper.make_tensor_value_info(name, kind, ["n", 2]) for name in "xy")
    weights = helper.make_tensor("w", kind, [2], [1.0, 2.0])
    node = helper.make_node("Add", ["x", "w"], ["y"])
    also = helper.make_tensor_value_info("w", kind, [2])
    model = helper.make_model(helper.make_graph([node], "g", [taken, also], [made], [weights]))
    assert describe_model_input(model, [FRAME], with_rows=True) == {"shape": [-1, 2], "dtype": "float32"}
    assert describe_model_input(model, [ARRAY], with_rows=True)["rows"] == ARRAY[:5].tolist()
    both = helper.make_model(helper.make_graph([node], "g", [taken, also], [made]))
    assert describe_model_input(both, [ARRAY, np.zeros(2, "float32")], with_rows=True) == {
        "inputs": [
            {"name": "x", "shape": [-1, 2], "dtype": "float32"},
            {"name": "w", "shape": [2], "dtype": "float32"},
        ],
        "rows": {"x": ARRAY[:5].tolist(), "w": [0.0, 0.0]},
    }


class Tensor:
    """What Keras says of an input."""

    def __init__(self, name, *shape, dtype="float32"):
        self.name, self.shape, self.dtype = name, shape, dtype


class TwoInputs:
    """A model whose inputs are named, as Keras describes them."""

    def __init__(self, *inputs):
        self.inputs = [*inputs]


def test_rows_of_several_inputs():
    """An input has the rows of its name in a dict, else of the only array of its shape; an ambiguous one has none."""
    model = TwoInputs(Tensor("a", None, 2), Tensor("b", None, 2))
    other = ARRAY + 1
    for arguments in ([{"a": ARRAY, "b": other}], [{"b": other}, {"a": ARRAY}]):
        described = describe_model_input(model, arguments, with_rows=True)
        assert described["rows"] == {"a": ARRAY[:5].tolist(), "b": other[:5].tolist()}
    for arguments in ([], [ARRAY], [ARRAY, other], [{"a": ARRAY}], [{"a": ARRAY, "b": ARRAY}], [{"a": FRAME}, other]):
        described = describe_model_input(model, arguments, with_rows=True)
        assert [each["name"] for each in described["inputs"]] == ["a", "b"]
        assert "rows" not in described
    assert describe_model_input(TwoInputs(Tensor("a", None), Tensor("b", None, dtype="")), [], with_rows=True) == {}


def test_cells_are_json():
    """Missing values, times and NumPy's scalars are JSON; rows are left out where they are long or not wanted."""
    model = LinearRegression().fit(FRAME[["age"]], FRAME["left"])
    model.feature_names_in_ = np.array(["age", "day", "text"])
    table = pd.DataFrame({"age": [np.nan], "day": [pd.NaT], "text": ["x"]})
    assert describe_model_input(model, [table], with_rows=True)["rows"] == [[None, None, "x"]]
    day = table.assign(day=pd.Timestamp("2026-01-01"))
    assert describe_model_input(model, [day], with_rows=True)["rows"] == [[None, "2026-01-01T00:00:00", "x"]]
    for long, with_rows in ((table.assign(text="x" * 200_000), True), (table, False)):
        assert "rows" not in describe_model_input(model, [long], with_rows=with_rows)


def test_a_step_that_fits(run, stack):
    """The record of a step that returns a model has what the model takes; without previews it has no rows."""
    table = stack.save(FRAME).ref.to_wire()

    def fit(table: pd.DataFrame) -> LinearRegression:
        return LinearRegression().fit(table[FEATURES], table.pop("left"))

    names = [column["name"] for column in run(fit, table).model_inputs["output"]["columns"]]
    assert names == FEATURES
    hidden = run(fit, table, step=Step(fit, "fit", previews=False), task="hidden", cache=CacheState.OFF).model_inputs[
        "output"
    ]
    assert list(hidden) == ["columns"]
