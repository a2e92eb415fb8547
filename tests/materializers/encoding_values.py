"""The values in the files under `encodings/`; run as a module, this writes those that do not exist yet.

    python -m tests.materializers.encoding_values

An existing file is never written again: an older release wrote it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.catalog import ENCODINGS
from airflow_zen.materializers.cloudpickle import PickleMaterializer
from airflow_zen.materializers.files import BytesMaterializer
from airflow_zen.materializers.mlflow_model import MLflowModel
from airflow_zen.materializers.registry import default_registry
from airflow_zen.validation.evaluation_report import Curve, EvaluationReport, Plot, Slice
from airflow_zen.validation.report import Check, FailingRow, ValidationReport
from tests.materializers import records as r

HERE = Path(__file__).parent / "encodings"
X = np.arange(12.0).reshape(6, 2)


@dataclass(frozen=True)
class Written:
    """One value of one encoding: how it was made, and the library that reading it needs.

    `predicts` is for models, which are compared by their predictions for `X`. `seen_as` returns the view that is
    loaded where the value itself is not. `pickled` marks what Python 3.11 wrote where pickles were allowed. `by` is a
    materializer that is not the type's own.
    """

    make: Callable[[], Any]
    needs: str = ""
    predicts: Callable[[Any], Any] | None = None
    seen_as: Callable[[], Any] | None = None
    pickled: bool = False
    by: type[Materializer] | None = None

    @property
    def readable(self) -> bool:
        """Whether the library is installed here."""
        return not self.needs or find_spec(self.needs) is not None


def _profile() -> Any:
    import pandas as pd
    import whylogs

    return whylogs.log(pandas=pd.DataFrame({"x": X[:, 0]})).view()


def _file() -> Path:
    path = Path(tempfile.mkdtemp()) / "note.txt"
    path.write_text("a\n")
    return path


def _report() -> Any:
    row = FailingRow("8", "853.0")
    facts: dict[str, Any] = {"observed": "to 1301", "expected": "at most 600", "failing": 44, "sample": (row,)}
    failed = Check(name="in_range", column="dep_delay", passed=False, **facts)
    drift = Check(name="drift", passed=True, severity="warning", method="Wasserstein", value=0.05, threshold=0.1)
    files = {"profile.bin": bytes(range(9))}
    return ValidationReport("example 1.0", [failed, drift], 336_776, 1000, {"columns": 19}, {"drift.share": 0.2}, files)


def _evaluation() -> Any:
    slices = (Slice("carrier", "AA", 20, True, {"roc_auc": 0.5}), Slice("carrier", "UA", 500, False, {}))
    curves = (Curve("late", (0.0, 1.0), (0.0, 1.0)), Curve("", (0.5,), (0.25,), markers_only=True))
    plots = (
        Plot(title="ROC", curves=curves, x_title="x", y_title="y", axis_max=1.0),
        Plot(title="Confusion matrix", labels=("no", "yes"), counts=((3, 1), (0, 2))),
        Plot(title="Importance", bars=(("distance", 0.25),)),
    )
    check = Check(name="threshold", passed=False, column="roc_auc", value=0.6, threshold=0.7)
    numbers = {"roc_auc": 0.6, "baseline.roc_auc": 0.65}
    return EvaluationReport("example", [check], 520, metrics=numbers, task="binary", slices=slices, plots=plots)


def _pandas() -> Any:
    import pandas as pd

    columns = {
        "i": pd.array([1, None], "Int64"),
        "s": pd.Series(["a", None], dtype=pd.StringDtype("pyarrow")),
        # An explicit dtype: pandas 2 would use objects.
        "c": pd.Categorical(["x", None], pd.Index(["x", "y"], dtype=pd.StringDtype(na_value=float("nan")))),
        "o": pd.Series([1, "b"], dtype=object),
        "t": pd.date_range("2024", periods=2, tz="UTC", unit="us"),
    }
    return pd.DataFrame(columns, index=pd.Index([5, 7], name="id"))


def _arrow(kind: str) -> Any:
    import pyarrow as pa

    return pa.table({"a": pa.array([1, None], kind), "b": ["x", "y"]})


def _polars() -> Any:
    import polars as pl

    return pl.DataFrame({"a": [1, None], "b": [["x"], []]})


def _ridge() -> Any:
    from sklearn.linear_model import Ridge

    return Ridge().fit(X, X[:, 0])


def _boosted_pipeline() -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), _xgboost()).fit(X, X[:, 0])


def _xgboost() -> Any:
    import xgboost

    return xgboost.XGBRegressor(n_estimators=2, max_depth=1, n_jobs=1).fit(X, X[:, 0])


def _lightgbm() -> Any:
    import lightgbm

    return lightgbm.LGBMRegressor(n_estimators=2, min_child_samples=1, n_jobs=1, verbose=-1).fit(X, X[:, 0])


def _lightgbm_booster() -> Any:
    return _lightgbm().booster_


def _mlflow_model() -> Any:
    path = Path(tempfile.mkdtemp())
    (path / "MLmodel").write_text("flavors: {}\n")
    return MLflowModel(path)


def _onnx() -> Any:
    from onnx import TensorProto, helper

    node = helper.make_node("Relu", ["x"], ["y"])
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in ("x", "y")]
    graph = helper.make_graph([node], "relu", floats[:1], floats[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _module() -> Any:
    import torch

    module = torch.nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, -1.0]]))
        module.bias.zero_()
    return module


def _tensor() -> Any:
    import torch

    return torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).t()


def _keras() -> Any:
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile("sgd", "mse")
    return model


def _tf_dataset() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices({"a": np.arange(3), "b": ["x", "y", "z"]})


def _hugging_face(name: str) -> Any:
    from tests.materializers.ml_values import ROWS

    return ROWS[name].make(Path())


def _catboost() -> Any:
    import catboost

    options = {"iterations": 2, "depth": 1, "random_seed": 0, "verbose": 0, "allow_writing_files": False}
    return catboost.CatBoostRegressor(thread_count=1, **options).fit(X, X[:, 0])


def _image(mode: str) -> Any:
    from PIL import Image

    return Image.frombytes(mode, (2, 2), bytes(range(16))[: 4 * len(mode)])


def _figure() -> Any:
    import plotly.graph_objects as go

    return go.Figure(go.Scatter(x=np.arange(2), y=[0.5, 1]), layout={"template": None, "title": {"text": "t"}})


def _drawing() -> Any:
    """Return a figure without text, which every release of a font library draws the same."""
    from matplotlib.figure import Figure

    return Figure(figsize=(0.04, 0.03), dpi=100, facecolor="red")


def _drawn() -> Any:
    from PIL import Image

    return Image.new("RGBA", (4, 3), "red")


def _dataset() -> Any:
    import xarray as xr

    return xr.Dataset({"a": ("t", np.arange(2))}, coords={"t": [1.0, 2.0]}, attrs={"u": "m"})


def _early_figure() -> Any:
    """Return the figure with its arrays as base64, as early releases wrote them."""
    return type(_figure())(_figure().to_dict())


def _places() -> Any:
    import geopandas
    import shapely

    return geopandas.GeoDataFrame({"a": [1, 2]}, geometry=[shapely.Point(1, 2, 3), None], crs="EPSG:4326")


def _sparse(name: str) -> Any:
    import scipy.sparse

    return getattr(scipy.sparse, name)(np.eye(3))


def _text() -> Any:
    from airflow_zen.materializers.texts import HTMLString

    return HTMLString("<p>é</p>\r\n")


def _predict(model: Any) -> Any:
    return model.predict(X)


WRITTEN: dict[str, dict[str, Written]] = {
    "python.json@1": {
        "tree": Written(
            lambda: {
                "plain": [None, True, 1, -0.5, "é"],
                "when": (datetime(2024, 1, 1, tzinfo=UTC), {1, 2}),
                "records": [r.Color.RED, r.Params(3), r.Point(1, 2)],
                "numpy": [np.float32(0.5), np.array([1, 2])],
            }
        ),
        "parts": Written(lambda: {"x": np.arange(1001), 1: [r.Params(1)]}),
    },
    "python.path@1": {"file": Written(_file)},
    "python.text@1": {"html": Written(_text)},
    "python.bytes@1": {"any": Written(lambda: bytes(range(256)), by=BytesMaterializer)},
    "cloudpickle@1": {
        "python-3.11": Written(lambda: r.Plain(1), "cloudpickle", pickled=True),
        "figure": Written(_drawing, "matplotlib", pickled=True, by=PickleMaterializer),
    },
    "numpy.npy@1": {
        "structured": Written(lambda: np.array([(1, "x")], [("a", "i4"), ("b", "U2")])),
        "masked": Written(lambda: np.ma.array([1.0, 2.0], mask=[0, 1], fill_value=-1)),
        "objects": Written(lambda: np.array([[1], None, "a"], dtype=object)),
    },
    "pyarrow.parquet@1": {"table": Written(lambda: _arrow("int32"))},
    "pyarrow.ipc@1": {"table": Written(lambda: _arrow("date64"))},
    "pandas.parquet@1": {"frame": Written(_pandas)},
    "polars.parquet@1": {"frame": Written(_polars, "polars")},
    "scipy.npy@1": {name: Written(lambda name=name: _sparse(name), "scipy") for name in ("csr_array", "coo_matrix")},
    "sklearn.mlflow@1": {"ridge": Written(_ridge, "skops", _predict)},
    "sklearn.mlflow@2": {"ridge": Written(_ridge, "sklearn", _predict)},
    # The booster was part of the pipeline's own file before xgboost.mlflow@3.
    "sklearn.mlflow@3": {
        "ridge": Written(_ridge, "sklearn", _predict),
        "boosted": Written(_boosted_pipeline, "xgboost", _predict),
    },
    **{f"xgboost.mlflow@{version}": {"regressor": Written(_xgboost, "xgboost", _predict)} for version in (1, 2, 3)},
    **{
        f"lightgbm.mlflow@{version}": {
            "regressor": Written(_lightgbm, "lightgbm", _predict),
            "booster": Written(_lightgbm_booster, "lightgbm", _predict),
        }
        for version in (1, 2, 3)
    },
    "directory.mlflow@1": {"any": Written(_mlflow_model, "", lambda model: len((model.path / "MLmodel").read_bytes()))},
    **{f"onnx.mlflow@{version}": {"relu": Written(_onnx, "onnx")} for version in (1, 2)},
    **{f"catboost.mlflow@{version}": {"regressor": Written(_catboost, "catboost", _predict)} for version in (1, 2)},
    "torch.safetensors@1": {"transposed": Written(_tensor, "torch")},
    "torch.state@1": {"linear": Written(lambda: _module().state_dict(), "torch")},
    "torch.module@1": {"linear": Written(_module, "torch")},
    **{
        f"keras.mlflow@{version}": {"dense": Written(_keras, "tensorflow", lambda model: model.predict(X, verbose=0))}
        for version in (1, 2)
    },
    "tensorflow.tfrecord@1": {"slices": Written(_tf_dataset, "tensorflow")},
    "transformers.pretrained@1": {"tokenizer": Written(lambda: _hugging_face("tokenizer"), "transformers")},
    "datasets.arrow@1": {"rows": Written(lambda: _hugging_face("hugging face dataset"), "datasets")},
    "pillow.png@1": {"rgb": Written(lambda: _image("RGB"), "PIL"), "cmyk": Written(lambda: _image("CMYK"), "PIL")},
    "validation.report@1": {"failed": Written(_report)},
    "validation.evaluation@1": {"failed": Written(_evaluation)},
    "plotly.json@1": {"scatter": Written(_early_figure, "plotly"), "arrays": Written(_figure, "plotly")},
    "matplotlib.figure@1": {
        "drawn": Written(_drawing, "PIL", seen_as=_drawn),
        "pickled": Written(_drawing, "matplotlib", pickled=True),
    },
    "xarray.npy@1": {"dataset": Written(_dataset, "xarray")},
    "whylogs.profile@1": {"numbers": Written(_profile, "whylogs")},
    "geopandas.wkb@1": {"places": Written(_places, "geopandas")},
}


def main() -> None:
    """Write what does not exist yet, with the libraries installed here."""
    for encoding, values in WRITTEN.items():
        for name, written in values.items():
            directory = HERE / encoding / name
            if directory.exists() or not written.readable:
                continue
            directory.mkdir(parents=True)
            registry = default_registry(allow_pickle=written.pickled)
            saved = registry.save(written.make(), directory, by=written.by)
            assert saved.encoding == encoding, (saved.encoding, encoding)
    assert WRITTEN.keys() == ENCODINGS.keys(), WRITTEN.keys() ^ ENCODINGS.keys()


if __name__ == "__main__":
    main()
