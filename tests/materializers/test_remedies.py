"""What a refusal of `test_refusals` tells a user to do, done: the value is then stored, and comes back."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import geopandas
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import shapely
import xgboost
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from airflow_zen.errors import MaterializerNotFound, SaveRefused
from airflow_zen.materializers.registry import default_registry
from airflow_zen.materializers.texts import HTMLString
from tests.materializers import records as r
from tests.materializers.own_estimators import halve
from tests.materializers.sameness import assert_same
from tests.materializers.test_refusals import REFUSED

REGISTRY = default_registry()


class Named(r.Holder[int]):
    """The name that a refusal asks for."""


def _without_freq(value: Any) -> Any:
    value.index.freq = None
    return value


def _square(labels: Any, predictions: Any) -> Any:
    return predictions - labels, np.ones_like(labels)


def _without_links(root: Path) -> Path:
    for path in root.iterdir():
        target = path.resolve()
        if path.is_symlink() or not target.is_dir():
            path.unlink()
        if target.is_file():
            path.write_bytes(target.read_bytes())
        elif target.is_dir():
            path.mkdir(exist_ok=True)
    return root


def _renamed(root: Path) -> Path:
    for path in root.iterdir():
        path.rename(root / "name")
    return root


def _written(path: Path) -> Path:
    path.write_text("written")
    return path


REMEDIES: dict[str, Callable[[Any], Any]] = {
    "subclass of dict": dict,
    "subclass of int": int,
    "subclass of str": str,
    "subclass of list, inside": lambda value: {"a": [list(value["a"][0])]},
    "subclass of str as key": lambda value: {str(key): item for key, item in value.items()},
    "struct sequence": tuple,
    "cycle": lambda value: value[:1],
    "array that contains itself": lambda value: value[0][:0],
    "too deep": lambda value: [len(value)],
    "local class": lambda value: r.Params(value.a),
    "namedtuple under another name": lambda value: r.Params(value.a),
    "dataclass that is a list": list,
    "dataclass with an attribute": lambda value: r.Params(value.depth),
    "counter with an attribute": lambda value: r.Params(dict(value)),
    "ordereddict subclass": OrderedDict,
    "defaultdict of a lambda": dict,
    "pendulum interval": lambda value: value.as_timedelta(),
    "dateutil zone": lambda _: ZoneInfo("Europe/Paris"),
    "zone from a file": lambda _: ZoneInfo("UTC"),
    "path in a set": list,
    "generic dataclass that knows of what": lambda value: r.Box(value.item),
    "pydantic model made for a type": lambda value: Named(item=value.item),
    "bytes in memory": lambda value: value.getvalue(),
    "generator": list,
    "memmap": np.asarray,
    "array subclass": np.asarray,
    "structured objects": lambda value: {name: value[name] for name in value.dtype.names},
    "dtype with metadata": lambda value: value.astype("f8"),
    "overlapping fields": lambda value: {name: value[name] for name in value.dtype.names},
    "structured dtype": lambda value: {"text": str(value), "array": np.empty(0, value)},
    "dtype alone with metadata": str,
    "dtype of texts": lambda value: {"text": str(value), "array": np.empty(0, value)},
    "longdouble scalar": np.float64,
    "structured scalar": lambda value: {"item": value.item(), "array": np.array([value])},
    "frame subclass": pd.DataFrame,
    "frame in a cell": lambda value: {"table": value.drop(columns="a"), "a": value["a"][0]},
    "unknown object in a cell": lambda value: value.astype(str),
    "longdouble column": lambda value: value.astype("float64"),
    "frequency that has no name": _without_freq,
    "frequency of feasts": _without_freq,
    "frequency with holidays": _without_freq,
    "period that has no name": lambda value: pd.Series(pd.arrays.PeriodArray(value.array.asi8, dtype="period[W-SUN]")),
    "geometry column of a pandas frame": lambda value: {
        "text": value.astype(str),
        "table": geopandas.GeoDataFrame(value),
    },
    "column of an own dtype": lambda value: {
        "text": value.astype(str),
        "objects": value.astype(object),
    },
    "masked records": lambda value: np.ma.MaskedArray(value, subok=False),
    "categories in a dataset": lambda value: value.assign(a=value["a"].astype(object)),
    "arrow dictionary column": pa.Table.from_pandas,
    "Arrow dictionaries in pandas": lambda value: {
        "categories": value.astype("category"),
        "texts": value.astype("str"),
        "frame": pa.Table.from_pandas(value.to_frame("values")),
    },
    "arrow table with our key": lambda value: value.replace_schema_metadata({"another": "mine"}),
    "column of a dateutil zone": lambda value: value.assign(a=value["a"].dt.tz_convert(ZoneInfo("Europe/Paris"))),
    "seconds beyond milliseconds": lambda value: value.astype("int64"),
    "Arrow seconds beyond milliseconds": lambda value: pa.table({"a": value["a"].cast(pa.int64())}),
    "polars subclass": pl.DataFrame,
    "polars frames one by one": lambda _: pl.LazyFrame({"a": [1]}),
    "lazy frame in a list": lambda value: [value[0].collect()],
    "iterator of nothing": lambda _: iter([pd.DataFrame({"a": np.empty(0)})]),
    "polars objects": lambda value: value.with_columns(pl.Series("a", map(str, value["a"]))),
    "polars empty struct": lambda value: value.select(pl.lit(None, pl.String).alias("a")),
    "lambda in a pipeline": lambda _: make_pipeline(FunctionTransformer(halve)),
    "subclass of a text": HTMLString,
    "text that is not UTF-8": lambda value: HTMLString(value.encode(errors="replace").decode()),
    "sparse subclass": scipy.sparse.csr_array,
    "sparse objects": lambda value: value.astype(float),
    "named tuple with an attribute": lambda value: r.Params(value.a),
    "opened image": lambda value: value.copy(),
    "figure widget": go.Figure,
    "data array with an own index": lambda value: value.drop_indexes("x"),
    "linear ring": lambda value: geopandas.GeoSeries(
        {"line": shapely.LineString(value.iloc[1]), "area": shapely.Polygon(value.iloc[1])}
    ),
    "figure with keys of two types": lambda _: go.Figure(go.Scatter(meta={"1": 2, "a": 3})),
    "geo frame subclass": geopandas.GeoDataFrame,
    "xgboost with a lambda as objective": lambda _: xgboost.XGBRegressor(objective=_square).fit([[1.0], [2.0]], [1, 2]),
    "missing path": _written,
    "root path": lambda _: Path(__file__),
    "link that leaves": _without_links,
    "link to a directory": _without_links,
    "pipe": _without_links,
    "file name that is no text": _renamed,
}


def _as_read(value: Any) -> Any:
    """Return a value as it is loaded without a type: what is stored batch by batch is one table."""
    if isinstance(value, pl.LazyFrame):
        return value.collect()
    return pd.concat(value) if isinstance(value, Iterator) else value


@pytest.mark.parametrize("name", REMEDIES)
def test_remedy_works(name: str, tmp_path: Path) -> None:
    """A refused value is stored after the change that the refusal asks for, and comes back as it was changed."""
    for folder in ("source", "refused", "artifact"):
        (tmp_path / folder).mkdir()
    value = REFUSED[name][0](tmp_path / "source")
    with pytest.raises((SaveRefused, MaterializerNotFound), match=re.escape(REFUSED[name][1])):
        REGISTRY.save(value, tmp_path / "refused")
    changed = REMEDIES[name](value)
    saved = REGISTRY.save(changed, tmp_path / "artifact")
    loaded = REGISTRY.load(tmp_path / "artifact", saved.encoding)
    assert_same(_as_read(REMEDIES[name](value) if isinstance(changed, Iterator) else changed), loaded)


def _scripted(torch: Any, module: Any, directory: Path) -> Path:
    torch.jit.save(module, directory / "module.pt")
    return directory / "module.pt"


TORCH_REMEDIES: dict[str, tuple[Callable[[Any], Any], str, Callable[[Any, Any, Path], Any]]] = {
    "of a computation": (
        lambda torch: torch.ones(1, requires_grad=True) * 2,
        "is not stored. Return tensor.detach().",
        lambda _, value, __: value.detach(),
    ),
    "sparse": (
        lambda torch: torch.eye(2).to_sparse(),
        "is not stored. Return tensor.to_dense() or",
        lambda _, value, __: value.to_dense(),
    ),
    "quantized": (
        lambda torch: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "is not stored. Return tensor.to_dense() or .dequantize().",
        lambda _, value, __: value.dequantize(),
    ),
    "without values": (
        lambda torch: torch.ones(2, device="meta"),
        "make torch.empty_like(tensor, device='cpu') and fill it.",
        lambda torch, value, _: torch.empty_like(value, device="cpu").fill_(0),
    ),
    "module without values": (
        lambda torch: torch.nn.Linear(2, 1, device="meta"),
        "Make its module on the device 'cpu', and load its weights",
        lambda torch, _, __: torch.nn.Linear(2, 1, device="cpu"),
    ),
    "scripted module": (lambda torch: torch.jit.script(torch.nn.Linear(1, 1)), "pathlib.Path(", _scripted),
}


@pytest.mark.ml
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(("make", "words", "remedy"), TORCH_REMEDIES.values(), ids=TORCH_REMEDIES.keys())
def test_remedy_of_torch_works(
    make: Callable[[Any], Any], words: str, remedy: Callable[..., Any], tmp_path: Path
) -> None:
    """A refused tensor or module of PyTorch is stored after the change that the refusal asks for."""
    torch = pytest.importorskip("torch", reason="torch is not installed: make test-ml")
    (tmp_path / "refused").mkdir()
    (tmp_path / "artifact").mkdir()
    value = make(torch)
    with pytest.raises(SaveRefused, match=re.escape(words)):
        REGISTRY.save(value, tmp_path / "refused")
    changed = remedy(torch, value, tmp_path)
    saved = REGISTRY.save(changed, tmp_path / "artifact")
    assert_same(changed, REGISTRY.load(tmp_path / "artifact", saved.encoding))
