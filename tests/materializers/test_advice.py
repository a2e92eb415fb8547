"""What a refusal tells a user to return instead is stored."""

from __future__ import annotations

import array
import importlib
import io
import ipaddress
import logging
import os
import re
import types
from collections import ChainMap, UserDict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

import geopandas
import lightgbm
import matplotlib.figure
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import polars as pl
import pyarrow as pa
import pydantic
import pytest
import scipy.spatial
import shapely
import xarray as xr

import airflow_zen
from airflow_zen.errors import LocatedError, MaterializerNotFound, SaveRefused, StepDefinitionError
from airflow_zen.materializers import catalog
from airflow_zen.materializers.registry import MaterializerRegistry, default_registry

REGISTRY = default_registry()
FRAME = pd.DataFrame({"a": [1, 2, 2], "b": [0.5, 1.5, 2.5]})


def _library(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed: make test-ml")


def _tokenizer_and_bert() -> tuple[Any, Any]:
    from tests.materializers.ml_values import ROWS

    _library("transformers")
    return ROWS["tokenizer"].make(Path()), ROWS["bert for classification"].make(Path())


def _pipeline() -> Any:
    tokenizer, model = _tokenizer_and_bert()
    return _library("transformers").pipeline("text-classification", model=model, tokenizer=tokenizer)


def _trainer() -> Any:
    lightning = _library("lightning")
    from tests.materializers.lightning_modules import Regressor

    trainer = lightning.Trainer(accelerator="cpu", logger=False, max_epochs=1, enable_progress_bar=False)
    torch = _library("torch")
    rows = torch.utils.data.TensorDataset(torch.ones(4, 3), torch.ones(4, 1))
    trainer.fit(Regressor(2, 0.1, {}, Path("x")), torch.utils.data.DataLoader(rows))
    return trainer


def _study() -> Any:
    optuna = _library("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    return study


def _response() -> Any:
    response = _library("requests").models.Response()
    response._content = b"{}"
    return response


def _optimizer() -> Any:
    torch = _library("torch")
    return torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1, momentum=0.9)


def _history() -> Any:
    keras = _library("keras")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    return model.fit(np.ones((2, 1)), np.ones(2), verbose=0)


def _hugging_face_rows() -> Any:
    return _library("datasets").Dataset.from_dict({"a": [1, 2]})


class Service(pydantic.BaseModel):
    url: pydantic.HttpUrl


VALUES: dict[str, Callable[[], Any]] = {
    "builtins.dict_keys": {"a": 1}.keys,
    "builtins.BaseException": lambda: ValueError("no"),
    "builtins.mappingproxy": lambda: types.MappingProxyType({"a": 1}),
    "builtins.memoryview": lambda: memoryview(b"abc"),
    "_io.BytesIO": lambda: io.BytesIO(b"x"),
    "_io.StringIO": lambda: io.StringIO("x"),
    "array.array": lambda: array.array("i", [1, 2]),
    "collections.ChainMap": lambda: ChainMap({"a": 1}),
    "collections.UserDict": lambda: UserDict({"a": 1}),
    "ipaddress._IPAddressBase": lambda: ipaddress.ip_address("::1"),
    "pathlib.PurePath": lambda: PureWindowsPath("C:/a"),
    "re.Pattern": lambda: re.compile("a+"),
    "types.SimpleNamespace": lambda: types.SimpleNamespace(a=1),
    "logging.Logger": lambda: logging.getLogger("mine"),
    "builtins.type": lambda: int,
    "builtins.module": lambda: os,
    "pydantic.networks._BaseUrl": lambda: Service(url="https://example.org").url,
    "numpy.poly1d": lambda: np.poly1d([1, 2]),
    "numpy.random.Generator": lambda: np.random.default_rng(0),
    "numpy.random.RandomState": lambda: np.random.RandomState(0),
    "scipy.spatial.KDTree": lambda: scipy.spatial.KDTree(np.eye(3)),
    "scipy.spatial.transform.Rotation": scipy.spatial.transform.Rotation.identity,
    "pandas.api.extensions.ExtensionArray": lambda: pd.array([1], dtype="Int64"),
    "pandas.io.formats.style.Styler": lambda: FRAME.style,
    "pandas._libs.tslibs.BaseOffset": pd.offsets.MonthEnd,
    "pyarrow.Array": lambda: pa.array([1]),
    "pyarrow.Scalar": lambda: pa.scalar(1),
    "pyarrow.Schema": lambda: pa.schema([("a", pa.int64())]),
    "pyarrow.Tensor": lambda: pa.Tensor.from_numpy(np.eye(2)),
    "shapely.geometry.base.BaseGeometry": lambda: shapely.Point(0, 0),
    "plotly.basedatatypes.BaseTraceType": lambda: go.Scatter(y=[1]),
    "xarray.Variable": lambda: xr.Variable("x", [1, 2]),
    "xarray.DataTree": lambda: xr.DataTree.from_dict({"/a": xr.Dataset({"v": ("x", [1])})}),
    "matplotlib.axes._axes.Axes": lambda: matplotlib.figure.Figure().subplots(),
    "torch.optim.Optimizer": _optimizer,
    "torch.optim.lr_scheduler.LRScheduler": lambda: _library("torch").optim.lr_scheduler.StepLR(_optimizer(), 2),
    "torch.Generator": lambda: _library("torch").Generator().manual_seed(1),
    "lightning.pytorch.trainer.trainer.Trainer": _trainer,
    "transformers.pipelines.base.Pipeline": _pipeline,
    "transformers.configuration_utils.PreTrainedConfig": lambda: _library("transformers").BertConfig(),
    "transformers.generation.configuration_utils.GenerationConfig": lambda: _library("transformers").GenerationConfig(),
    "transformers.training_args.TrainingArguments": lambda: _library("transformers").TrainingArguments("folder"),
    "transformers.utils.generic.ModelOutput": lambda: _library("transformers").modeling_outputs.ModelOutput(
        loss=np.ones(2), logits=np.ones(2)
    ),
    "transformers.trainer_utils.EvalPrediction": lambda: _library("transformers").EvalPrediction(
        np.ones(2), np.ones(2)
    ),
    "tokenizers.Tokenizer": lambda: _library("tokenizers").Tokenizer(_library("tokenizers").models.BPE()),
    "transformers.image_processing_base.ImageProcessingMixin": lambda: _library("transformers").ViTImageProcessor(),
    "tensorflow.python.framework.tensor.Tensor": lambda: _library("tensorflow").constant([1.0]),
    "tensorflow.python.ops.variables.Variable": lambda: _library("tensorflow").Variable([1.0]),
    "tensorflow.python.ops.ragged.ragged_tensor.RaggedTensor": lambda: _library("tensorflow").ragged.constant(
        [[1], []]
    ),
    "tensorflow.python.framework.sparse_tensor.SparseTensor": lambda: _library("tensorflow").sparse.eye(2),
    "tensorflow.python.module.module.Module": lambda: _library("tensorflow").Module(),
    "keras.Layer": lambda: _library("keras").layers.Rescaling(2.0),
    "keras.Variable": lambda: _library("keras").Variable([1.0]),
    "keras.Optimizer": lambda: _library("keras").optimizers.Adam(0.1),
    "keras.Loss": lambda: _library("keras").losses.Huber(0.3),
    "keras.Metric": lambda: _library("keras").metrics.AUC(num_thresholds=7),
    "keras.Initializer": lambda: _library("keras").initializers.GlorotUniform(seed=1),
    "keras.Regularizer": lambda: _library("keras").regularizers.L2(0.1),
    "keras.src.optimizers.schedules.learning_rate_schedule.LearningRateSchedule": lambda: _library(
        "keras"
    ).optimizers.schedules.ExponentialDecay(0.1, 2, 0.3),
    "keras.src.random.SeedGenerator": lambda: _library("keras").random.SeedGenerator(1),
    "keras.src.callbacks.History": _history,
    "datasets.iterable_dataset.IterableDataset": lambda: _hugging_face_rows().to_iterable_dataset(),
    "datasets.dataset_dict.IterableDatasetDict": lambda: _library("datasets").IterableDatasetDict(
        {"train": _hugging_face_rows().to_iterable_dataset()}
    ),
    "datasets.features.features.Features": lambda: _hugging_face_rows().features,
    "optuna.study.study.Study": _study,
    "networkx.classes.graph.Graph": lambda: _library("networkx").path_graph(3),
    "requests.models.Response": _response,
}

WITHOUT_EXPRESSION = {
    "builtins.function": lambda: len,
    "functools.partial": lambda: partial(int, "1"),
    "_io._IOBase": lambda: io.TextIOWrapper(io.BytesIO()),
    "pydantic.types.SecretStr": lambda: pydantic.SecretStr("x"),
    "pandas.api.typing.Rolling": lambda: FRAME.rolling(2),
    "polars.Expr": lambda: pl.col("a"),
    "pandas.api.typing.DataFrameGroupBy": lambda: FRAME.groupby("a"),
    "pandas.api.typing.SeriesGroupBy": lambda: FRAME.groupby("a")["b"],
    "lightgbm.Dataset": lambda: lightgbm.Dataset(FRAME),
}


def _refusal(value: Any, directory: Path) -> LocatedError:
    (directory / "refused").mkdir(exist_ok=True)
    with pytest.raises((SaveRefused, MaterializerNotFound)) as refusal:
        REGISTRY.save(value, directory / "refused")
    return refusal.value


def _expressions(message: str) -> Iterator[str]:
    """Yield what a message says to return, as Python."""
    advice = re.search(r"(?:saves [\w.]+\.|is not stored:) (.*?)(?: A value of any type can be written|$)", message)
    assert advice, message
    calls = re.search(r"Call (.+?) and return (.+)\.$", advice[1])
    if calls:
        yield f"[{calls[1]}, {calls[2]}][1]"
        return
    stated = re.search(r"[Rr]eturn (.+?)\.$", advice[1])
    assert stated, message
    for alternative in re.split(r", (?:or |whose |and build )", stated[1]):
        if "value" in alternative:
            yield alternative.removeprefix("or ")


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.ml
def test_what_to_return_instead_is_stored(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The expressions that a refusal names, evaluated with the refused value, have a materializer."""
    monkeypatch.chdir(tmp_path)
    value = VALUES[name]()
    message = str(_refusal(value, tmp_path))
    names = {"value": value, "numpy": np, "pandas": pd, "pyarrow": pa, "xarray": xr, "geopandas": geopandas}
    names |= {"pathlib": importlib.import_module("pathlib"), "plotly": importlib.import_module("plotly")}
    names |= {"airflow_zen": airflow_zen, "bytes": bytes, "keras": None, "networkx": None}
    names |= {
        library: _library(library)
        for library in ("keras", "networkx", "tensorflow", "datasets")
        if f"{library}." in message
    }
    expressions = [*_expressions(message)]
    assert expressions, message
    for number, expression in enumerate(expressions):
        stored = tmp_path / f"stored_{number}"
        stored.mkdir()
        saved = REGISTRY.save(eval(expression, names), stored)
        REGISTRY.load(stored, saved.encoding, bytes if saved.encoding.startswith("matplotlib") else None)


@pytest.mark.parametrize("name", WITHOUT_EXPRESSION)
def test_value_that_stands_for_another_is_refused(name: str, tmp_path: Path) -> None:
    """A value that only refers to another one is refused with a sentence on that, then what works for any type."""
    message = str(_refusal(WITHOUT_EXPRESSION[name](), tmp_path))
    advice = catalog.alternative([name])
    assert advice
    assert message.endswith(f"{advice} {catalog.GENERAL_ADVICE}")


def test_general_advice_works(tmp_path: Path) -> None:
    """A file that a library wrote, an MLflow Model, and a materializer of one's own are stored; so is a pickle if allowed."""
    documented = _documented_materializer()
    words = tmp_path / "words.txt"
    words.write_text("a b")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}\n")
    value = documented["Plan"]("fit, then judge")
    registries: dict[str, tuple[MaterializerRegistry, Any]] = {
        "path": (REGISTRY, words),
        "model": (REGISTRY, airflow_zen.MLflowModel(tmp_path / "model")),
        "materializer": (REGISTRY.register(documented["PlanMaterializer"]), value),
        "pickle": (default_registry(allow_pickle=True), re.compile("a")),
    }
    assert "airflow_zen.MLflowModel(path)" in str(_refusal(Mine(), tmp_path))
    for name, (registry, held) in registries.items():
        (tmp_path / name / "artifact").mkdir(parents=True, exist_ok=True)
        saved = registry.save(held, tmp_path / name / "artifact")
        registry.load(tmp_path / name / "artifact", saved.encoding)
    loaded = registries["materializer"][0].load(tmp_path / "materializer" / "artifact", "plan.text@1")
    assert loaded.text == "fit, then judge"


def _documented_materializer() -> dict[str, Any]:
    """Return what the example in the documentation defines, which has ten lines; it is not registered here."""
    page = (Path(__file__).parents[2] / "docs" / "steps.md").read_text()
    example = next(
        code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "class PlanMaterializer" in code
    )
    lines = [line for line in example.splitlines() if line.strip() and not line.startswith(("from", "import"))]
    assert len(lines) <= 10
    plan = type("Plan", (), {"__init__": lambda self, text: setattr(self, "text", text)})
    names: dict[str, Any] = {"Plan": plan}
    exec(example.replace("@register_materializer\n", ""), names)
    return names


def test_columns_are_named_once() -> None:
    """No column, and the same one twice, is refused; columns named as the errors say are a mark."""
    with pytest.raises(StepDefinitionError, match=r"such as Columns\('a', 'b'\)"):
        airflow_zen.Columns()
    with pytest.raises(StepDefinitionError, match="Leave the second out"):
        airflow_zen.Columns("a", "b", "a")
    assert airflow_zen.Columns("a", "b").names == ("a", "b")


class Mine:
    pass


def _with_attrs() -> pd.DataFrame:
    frame = FRAME.copy()
    frame.attrs["note"] = {"made by": Mine()}
    return frame


PLACES: dict[str, tuple[Callable[[], Any], str]] = {
    "key and position": (lambda: {"runs": [1, (Mine(),)]}, "In ['runs'][1][0]: "),
    "key itself": (lambda: {"runs": {Mine(): 1}}, "In ['runs'], key <"),
    "cell": (lambda: {"table": FRAME.assign(c=[1, Mine(), 2])}, "In ['table'], column 'c': "),
    "dtype": (lambda: FRAME.assign(c=np.zeros(3, np.longdouble)), "In column 'c': "),
    "category": (lambda: FRAME.assign(c=pd.Categorical.from_codes([0, 0, 0], [Mine()])), "In column 'c': "),
    "time zone": (
        lambda: FRAME.assign(c=pd.date_range("2024", periods=3, tz=importlib.import_module("dateutil.tz").tzlocal())),
        "In column 'c': ",
    ),
    "attrs of a frame": (_with_attrs, "In attrs['note']['made by']: "),
    "labels of columns": (lambda: pd.DataFrame([[1]], columns=[Mine()]), "In columns[0]: "),
    "labels of rows": (lambda: pd.DataFrame({"a": [1]}, index=[Mine()]), "In index: "),
    "attrs of a variable": (lambda: xr.Dataset({"v": ("x", [1], {"u": Mine()})}), "In variables['v']['attrs']['u']: "),
    "attrs of a dataset": (lambda: xr.Dataset({"v": ("x", [1])}, attrs={"u": Mine()}), "In attrs['u']: "),
    "attrs of an array": (lambda: xr.DataArray([1], dims="x", attrs={"u": Mine()}), "In attrs['u']: "),
    "element of an array": (lambda: {"grid": np.array([1, Mine()], dtype=object)}, "In ['grid'][1]: "),
    "column of polars": (
        lambda: {"t": pl.DataFrame({"c": pl.Series([object()], dtype=pl.Object)})},
        "polars does not write 'c'",
    ),
    "member of a set": (lambda: {"s": {(1, Mine)}}, "In ['s'][1]: "),
}


@pytest.mark.parametrize(("make", "place"), PLACES.values(), ids=PLACES.keys())
def test_refusal_says_where_it_was_met(make: Callable[[], Any], place: str, tmp_path: Path) -> None:
    """The keys, positions, attributes and columns that lead to a value without a form are in the error."""
    assert place in str(_refusal(make(), tmp_path))


def test_long_place_is_cut(tmp_path: Path) -> None:
    """A path through many containers does not hide the message."""
    value: Any = Mine()
    for _ in range(80):
        value = {"deeper": value}
    assert "…: No materializer saves" in str(_refusal(value, tmp_path))
