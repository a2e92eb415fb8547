"""The layouts are public: what is on disk does not change without a new encoding."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from airflow_zen.materializers.registry import default_registry
from airflow_zen.materializers.texts import HTMLString
from tests.materializers import records as r
from tests.materializers.library_values import BOOSTERS
from tests.materializers.path_values import MODELS

ENVIRONMENT = ("requirements.txt", "python_env.yaml", "conda.yaml")
TREE = {
    "plain": [None, True, 1, -0.5, "é"],
    "tuple": (1, {2}),
    "float": float("nan"),
    1: {"$": b"\x00"},
    "when": [datetime(2024, 1, 1, tzinfo=UTC), date(2024, 1, 2)],
    "records": [r.Color.RED, r.Params(3), r.Point(1, 2)],
    "numpy": [np.float32(0.5), np.array([1, 2])],
    "pandas": pd.Timestamp("2024"),
}
TEXT = (
    '{"$":"dict","pairs":[["plain",[null,true,1,-0.5,"é"]],["tuple",{"$":"tuple","items":[1,{"$":"set","items":[2]}]}],'
    '["float",{"$":"float","value":"nan"}],[1,{"$":"dict","pairs":[["$",{"$":"bytes","base64":"AA=="}]]}],'
    '["when",[{"$":"datetime","iso":"2024-01-01T00:00:00","tz":{"$":"timezone","offset":[0,0,0]}},'
    '{"$":"date","iso":"2024-01-02"}]],["records",[{"$":"enum","class":"tests.materializers.records:Color","name":"RED"},'
    '{"$":"dataclass","class":"tests.materializers.records:Params","fields":{"depth":3,"rate":0.1,'
    '"tags":{"$":"tuple","items":[]}}},{"$":"namedtuple","class":"tests.materializers.records:Point",'
    '"fields":{"x":1,"y":2}}]],["numpy",[{"$":"numpy.scalar","dtype":"float32","value":0.5},'
    '{"$":"numpy.array","dtype":"<i8","shape":[2],"order":"C","items":[1,2]}]],'
    '["pandas",{"$":"pandas.Timestamp","unit":"us","value":1704067200000000}]]}'
)

LAYOUTS: dict[str, tuple[Any, str, str, set[str]]] = {
    "tree": ({"a": 1}, "python.json@1", "builtins.dict", {"value.json"}),
    "tree with a part": (
        {"a": pd.DataFrame({"x": [1]})},
        "python.json@1",
        "builtins.dict",
        {"value.json", "parts/0/table.parquet"},
    ),
    "array": (np.arange(3), "numpy.npy@1", "numpy.ndarray", {"array.npy"}),
    "masked array": (
        np.ma.array([1], mask=[1]),
        "numpy.npy@1",
        "numpy.ma.MaskedArray",
        {"array.npy", "mask.npy", "array.json"},
    ),
    "object array": (np.array([None]), "numpy.npy@1", "numpy.ndarray", {"array.json"}),
    "table": (pa.table({"a": [1]}), "pyarrow.parquet@1", "pyarrow.Table", {"table.parquet"}),
    "table that parquet changes": (
        pa.table({"a": pa.array([1], pa.date64())}),
        "pyarrow.ipc@1",
        "pyarrow.Table",
        {"table.arrow"},
    ),
    "frame": (pd.DataFrame({"a": [1]}), "pandas.parquet@1", "pandas.DataFrame", {"table.parquet"}),
    "frame with an index": (
        pd.DataFrame({"a": [1]}, index=["x"]),
        "pandas.parquet@1",
        "pandas.DataFrame",
        {"table.parquet"},
    ),
    "frame with bins": (
        pd.DataFrame({"a": pd.cut([1.0, 2.0], 2)}),
        "pandas.parquet@1",
        "pandas.DataFrame",
        {"table.parquet", "parts/0/table.parquet"},
    ),
    "series": (pd.Series([1]), "pandas.parquet@1", "pandas.Series", {"table.parquet"}),
    "polars": (pl.DataFrame({"a": [1]}), "polars.parquet@1", "polars.DataFrame", {"table.parquet"}),
    "sparse": (
        sp.csr_array(np.eye(2)),
        "scipy.npy@1",
        "scipy.sparse.csr_array",
        {"sparse.json", "data.npy", "indices.npy", "indptr.npy"},
    ),
    "text": (HTMLString("x"), "python.text@1", "airflow_zen.materializers.texts.HTMLString", {"text.html"}),
    "image": (Image.new("RGB", (1, 1)), "pillow.png@1", "PIL.Image.Image", {"image.png"}),
    "image that PNG changes": (
        Image.new("F", (1, 1)),
        "pillow.png@1",
        "PIL.Image.Image",
        {"pixels.npy", "image.json"},
    ),
    "figure": (go.Figure(), "plotly.json@1", "plotly.graph_objs._figure.Figure", {"figure.json"}),
    "drawn figure": (Figure(), "matplotlib.figure@1", "matplotlib.figure.Figure", {"figure.png", "figure.svg"}),
    "data array": (xr.DataArray([1]), "xarray.npy@1", "xarray.DataArray", {"dataset.json"}),
    "geo series": (
        geopandas.GeoSeries([]),
        "geopandas.wkb@1",
        "geopandas.GeoSeries",
        {"geo.json", "parts/0/table.parquet"},
    ),
    "xgboost": (
        BOOSTERS["xgboost regressor"](Path()),
        "xgboost.mlflow@3",
        "xgboost.XGBRegressor",
        {"MLmodel", "model.ubj", "config.json", "state.json", *ENVIRONMENT},
    ),
    "lightgbm": (
        BOOSTERS["lightgbm regressor"](Path()),
        "lightgbm.mlflow@3",
        "lightgbm.LGBMRegressor",
        {"MLmodel", "model.skops", *ENVIRONMENT},
    ),
    "lightgbm booster": (
        BOOSTERS["lightgbm booster"](Path()),
        "lightgbm.mlflow@3",
        "lightgbm.Booster",
        {"MLmodel", "model.lgb", "state.json", *ENVIRONMENT},
    ),
    "model": (
        MODELS["ridge"](Path()),
        "sklearn.mlflow@3",
        "sklearn.linear_model.Ridge",
        {"MLmodel", "model.skops", *ENVIRONMENT},
    ),
}


def test_typed_json_is_pinned(tmp_path: Path) -> None:
    """python.json@1 is this text, to the byte."""
    default_registry().save(TREE, tmp_path)
    assert (tmp_path / "value.json").read_text("utf-8") == TEXT
    digest = hashlib.sha256((tmp_path / "value.json").read_bytes()).hexdigest()
    assert digest == "e73083780aa9d86be6d6f1492d8e7c55a49ecb35528b5686010ef49a8b309cbd"


def test_npy_is_pinned(tmp_path: Path) -> None:
    """numpy.npy@1 is NumPy's own file, version 1.0, to the byte."""
    default_registry().save(np.array([1.5, -0.0]), tmp_path)
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }"
    content = header.ljust(127) + b"\n" + np.array([1.5, -0.0]).tobytes()
    assert (tmp_path / "array.npy").read_bytes() == content


@pytest.mark.parametrize(("value", "encoding", "type_name", "files"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_layout_is_pinned(value: Any, encoding: str, type_name: str, files: set[str], tmp_path: Path) -> None:
    """An encoding's files have these names, and its artifacts these types."""
    saved = default_registry().save(value, tmp_path)
    assert (saved.encoding, saved.type) == (encoding, type_name)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == files


def _times() -> pd.DataFrame:
    return pd.DataFrame({"t": pd.date_range("2024", periods=3, unit="us"), "m": pd.array([1, None, 3], "Int64")})


def _numbers(rows: int) -> Any:
    return np.arange(rows, dtype="int64") * 7919 % 1009


BYTES: dict[str, tuple[Any, str]] = {
    "frame": (
        pd.DataFrame({"n": _numbers(5000), "x": _numbers(5000) / 8, "b": _numbers(5000) > 500}),
        "17b3e070e93d7f776928fa68dfa4fa7ab59f1d38c7da6247f72f0a4463c14046",
    ),
    "frame of times and nulls": (_times(), "a3af7588c1016a02b599d584fb1610d732c67a1f7e890869ee9ad5308d13694d"),
    "frame of several row groups": (
        pd.DataFrame({"n": _numbers(300_000), "x": np.sqrt(_numbers(300_000))}),
        "82f2d9743eae776cb4a6a93766991e32cddc0c2cd77528240108a9a3c17b1e90",
    ),
    "categories": (
        pd.DataFrame({"c": pd.Categorical.from_codes([0, 1, -1], pd.Index([7, 8]))}, index=[3, 4, 5]),
        "a4d5ee52d33635eb5d67f75fbee7fcee6ff9103e20befd8587e8652931132299",
    ),
    "table": (
        pa.table({"s": ["x", None, "y"], "l": [[1], [], None], "d": [{"a": 1}, {"a": 2}, {"a": None}]}),
        "b4550af206f52e07984358ec26d03c7b62c08bb201947fc4d10b309f73953fa6",
    ),
    "dictionaries": (
        pa.table({"s": pa.array(["x", None, "y"]).dictionary_encode()}),
        "3d0a8b2e1d851b60dcd80a4b734fbfcbfba16d0e1b7103789ff491b432ab5903",
    ),
    "array": (_numbers(100).reshape(10, 10) / 4, "797fd93e2c3659475976a9b9c5394aad49d9296640f90aa277c6fea546543d6c"),
    "masked array": (
        np.ma.array([1.5, 2.5], mask=[True, False]),
        "0f4a95224225791a4064145592f23a7cf9516aa8d34bad430ae64cc1531bb7b3",
    ),
    "tree": (
        {"a": [1, 2.5, None], "b": (np.float32(0.5), datetime(2024, 1, 1, tzinfo=UTC))},
        "51055fb316c7cac4dd4f9b555864a247155cd62c3efc71c5a5d6f3f61766de53",
    ),
    "estimators": (
        make_pipeline(MinMaxScaler(), KNeighborsClassifier(2)).fit(_numbers(12).reshape(6, 2) / 8, [0, 1, 0, 1, 1, 0]),
        "6875f31d5795039202980274825133a33eeca3b7f662f5661c75a139e46b2168",
    ),
    "sparse": (sp.csr_array(np.eye(3)), "bedb3229a36c43ce8e154b1689ce7d4516fb9b21a79ddd18ab5ea5ca4c387414"),
}


@pytest.mark.parametrize(("value", "expected"), BYTES.values(), ids=BYTES.keys())
def test_bytes_do_not_depend_on_versions(value: Any, expected: str, tmp_path: Path) -> None:
    """A value is these bytes with every version of the libraries: its digest is the same in all environments."""
    default_registry().save(value, tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest() == expected


def test_note_of_a_frame_is_pinned(tmp_path: Path) -> None:
    """What parquet cannot say about a frame stands in its schema metadata, as this typed JSON."""
    import pyarrow.parquet as pq

    frame = pd.DataFrame({"c": pd.Categorical(["x"], ["x", "y"]), "o": ["s"]}, index=pd.Index([7], name="id"))
    default_registry().save(frame.astype({"o": object}), tmp_path)
    file = pq.ParquetFile(tmp_path / "table.parquet")
    assert file.schema_arrow.names == ["c", "o", "id"]
    assert file.metadata.metadata[b"airflow_zen"].decode() == (
        '{"index":{"names":["id"],"in":["id"],"how":[{}]},"dtypes":{"c":{"as":"category","ordered":false,'
        '"categories":{"$":"pandas.Index","dtype":{"string":"pyarrow","na":"nan"},"name":null,"items":["x","y"]},'
        '"shown":{}},"o":{"as":"object","of":"str","missing":"None"}}}'
    )
