"""Rows of the round-trip table: texts, boosters, images, figures, labelled and geographic data."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import lightgbm
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import polars as pl
import pyarrow as pa
import scipy.sparse as sp
import shapely
import xarray as xr
import xgboost
from PIL import Image
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from airflow_zen.materializers.texts import CSVString, HTMLString, JSONString, MarkdownString
from tests.materializers import records as r
from tests.materializers.path_values import LABELS, X, Y

CODES = np.where(LABELS == "yes", 1, 0)
QUIET = {"n_estimators": 4, "n_jobs": 1, "verbose": -1}

TEXTS: dict[str, Any] = {
    "html": HTMLString("<p>é &amp; 😀</p>\r\n"),
    "markdown": MarkdownString("# Title\n\n- a\n"),
    "csv": CSVString("a,b\r\n1,2\r\n"),
    "json text": JSONString('{"a":  1}'),
    "empty html": HTMLString(""),
    "texts in a dict": {"report": HTMLString("<b>x</b>"), "note": MarkdownString("x"), "plain": "x"},
}


def _xgboost_booster(_: Path) -> Any:
    return xgboost.train({"max_depth": 2, "eta": 0.3, "eval_metric": "mae", "nthread": 1}, xgboost.DMatrix(X, Y), 4)


def _xgboost_with_attributes(directory: Path) -> Any:
    booster = _xgboost_booster(directory)
    booster.set_attr(note="é", best_score="0.5", scikit_learn="mine")
    return booster


def _xgboost_classifier(_: Path) -> Any:
    model = xgboost.XGBClassifier(n_estimators=4, n_jobs=1, max_depth=2, eval_metric="logloss", early_stopping_rounds=1)
    return model.fit(X, CODES, eval_set=[(X, CODES)], verbose=False)


def _xgboost_on_categories(_: Path) -> Any:
    frame = X.assign(d=pd.Categorical(["u", "v"] * 40))
    return xgboost.XGBRegressor(n_estimators=3, n_jobs=1, enable_categorical=True, tree_method="hist").fit(frame, Y)


def _lightgbm_booster(_: Path) -> Any:
    return lightgbm.train({"verbose": -1, "num_leaves": 4, "num_threads": 1}, lightgbm.Dataset(X, Y), 4)


def _lightgbm_stopped_early(_: Path) -> Any:
    train, held_out = lightgbm.Dataset(X[:60], Y[:60]), lightgbm.Dataset(X[60:], np.zeros(20))
    stop = lightgbm.early_stopping(3, verbose=False)
    options = {"verbose": -1, "min_data_in_leaf": 5, "num_threads": 1}
    return lightgbm.train(options, train, 30, valid_sets=[held_out], callbacks=[stop], keep_training_booster=True)


BOOSTERS: dict[str, Callable[[Path], Any]] = {
    "xgboost booster": _xgboost_booster,
    "xgboost booster with attributes": _xgboost_with_attributes,
    "xgboost regressor": lambda _: xgboost.XGBRegressor(n_estimators=4, n_jobs=1, max_depth=2).fit(X, Y),
    "xgboost classifier": _xgboost_classifier,
    "xgboost random forest": lambda _: xgboost.XGBRFRegressor(n_estimators=4, n_jobs=1).fit(X, Y),
    "xgboost ranker": lambda _: xgboost.XGBRanker(n_estimators=4, n_jobs=1).fit(X, CODES, group=[40, 40]),
    "xgboost on categories": _xgboost_on_categories,
    "unfitted xgboost regressor": lambda _: xgboost.XGBRegressor(max_depth=3, random_state=0),
    "xgboost in a pipeline": lambda _: make_pipeline(
        StandardScaler(), xgboost.XGBRegressor(n_estimators=4, n_jobs=1)
    ).fit(X, Y),
    "lightgbm booster": _lightgbm_booster,
    "lightgbm booster stopped early": _lightgbm_stopped_early,
    "lightgbm regressor": lambda _: lightgbm.LGBMRegressor(**QUIET).fit(X, Y),
    "lightgbm classifier": lambda _: lightgbm.LGBMClassifier(**QUIET).fit(X, LABELS),
    "unfitted lightgbm classifier": lambda _: lightgbm.LGBMClassifier(num_leaves=3),
    "lightgbm in a pipeline": lambda _: make_pipeline(StandardScaler(), lightgbm.LGBMRegressor(**QUIET)).fit(X, Y),
    "namedtuple of a model": lambda _: r.Fitted(lightgbm.LGBMRegressor(**QUIET).fit(X, Y), np.arange(1100)),
    "boosters in a dict": lambda path: {"a": _xgboost_booster(path), "b": _lightgbm_booster(path), "score": 0.5},
}


def _gradient(mode: str) -> Image.Image:
    pixels = np.arange(12 * 7 * 3, dtype=np.uint8).reshape(7, 12, 3)
    return Image.fromarray(pixels).convert(mode)


def _palette() -> Image.Image:
    image = _gradient("RGB").quantize(8)
    image.info["transparency"] = 3
    return image


def _with_info() -> Image.Image:
    image = _gradient("RGB")
    image.info |= {"dpi": (72, 72), "icc_profile": b"\x00\x01", "comment": "é"}
    return image


IMAGES: dict[str, Any] = {
    **{
        f"{mode} image": _gradient(mode)
        for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "HSV", "I", "F")
    },
    "16-bit image": Image.fromarray(np.arange(6, dtype=np.uint16).reshape(2, 3) * 10000),
    "palette image with transparency": _palette(),
    "image with info": _with_info(),
    "image without pixels": Image.new("RGB", (0, 0)),
    "list of images": [_gradient("L"), _gradient("RGB")],
}

FIGURES: dict[str, Any] = {
    "empty figure": go.Figure(),
    "scatter": go.Figure(go.Scatter(x=[1, 2], y=[0.5, None], name="é"), layout={"title": {"text": "t"}}),
    "figure of arrays": go.Figure(go.Scatter(x=np.arange(3), y=np.linspace(0, 1, 3, dtype="f4"))),
    "figure of a large array": go.Figure(go.Heatmap(z=np.arange(5000.0).reshape(50, 100))),
    "figure of an array in meta": go.Figure(go.Scatter(y=[1], meta={"a": np.arange(3, dtype="u1")})),
    "figure that was read from JSON": go.Figure(go.Figure(go.Bar(y=np.arange(3.0))).to_dict()),
    "figure of dates": go.Figure(go.Bar(x=pd.date_range("2024", periods=2), y=["a", "b"])),
    "figure with frames": go.Figure(data=[go.Scatter(x=[1])], frames=[go.Frame(name="f", data=[go.Scatter(x=[2])])]),
}

_LEVELS = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=("letter", "number"))
_TIMES = pd.date_range("2024", periods=3)


def _encoded(dataset: xr.Dataset) -> xr.Dataset:
    """Set on a variable how a file encodes it, as open_dataset does."""
    dataset["a"].encoding = {"dtype": np.dtype("f4"), "_FillValue": np.float32(-1), "source": "a.nc"}
    return dataset


LABELLED: dict[str, Any] = {
    "data array": xr.DataArray(np.arange(6.0).reshape(2, 3), dims=("x", "y")),
    "data array with coordinates": xr.DataArray(
        np.arange(3, dtype="i2"),
        dims="x",
        coords={"x": ["a", "b", "cc"], "k": ("x", [1, 2, 3]), "s": 5.0},
        name="v",
        attrs={"units": "m"},
    ),
    "data array of one value": xr.DataArray(3),
    "data array named as its dimension": xr.DataArray([1, 2], dims="x", coords={"x": [1, 2]})["x"],
    "dataset": xr.Dataset({"a": ("t", np.arange(3)), "b": (("t", "u"), np.zeros((3, 2), "f4"))}, attrs={"q": (1, 2)}),
    "dataset over time": xr.Dataset({"a": ("t", np.arange(3))}, coords={"t": _TIMES}),
    "dataset with small labels": xr.Dataset(coords={"t": np.array([1, 2], "f4"), "u": np.array([1, 2], "i2")}),
    "dataset with levels": xr.Dataset(
        {"a": ("z", np.arange(4))}, coords=xr.Coordinates.from_pandas_multiindex(_LEVELS, "z")
    ).assign_coords(w=("z", [1.0, 2, 3, 4])),
    "dataset without an index": xr.Dataset({"a": ("t", [1, 2])}, coords={"t": [1, 2]}).drop_indexes("t"),
    "dataset that was read from a file": _encoded(xr.Dataset({"a": ("t", np.arange(3.0))})),
    "empty dataset": xr.Dataset(),
}

_POINTS = [shapely.Point(1, 2, 3), None]
_PLACES = geopandas.GeoDataFrame({"a": [1, 2]}, geometry=_POINTS, crs=4326)
_SHAPES = [shapely.Point(0, 0), shapely.LineString([(0, 0), (1, 1)])]
_NUMBERED = [shapely.set_srid(shapely.Point(1, 2), 4326), None, shapely.Point(0, 0)]
GEOGRAPHIC: dict[str, Any] = {
    "geo frame": _PLACES,
    "geo frame of two geometries": _PLACES.rename_geometry("where").assign(
        two=geopandas.GeoSeries(_SHAPES, crs="EPSG:3857")
    ),
    "geo frame without geometry": geopandas.GeoDataFrame({"a": [1]}),
    "empty geo frame": geopandas.GeoDataFrame(),
    "geo series": geopandas.GeoSeries(_SHAPES, name="q", index=["k", "l"]),
    "geo frame of unique labels": _PLACES.set_flags(allows_duplicate_labels=False),
    "geo series of unique labels": geopandas.GeoSeries(_SHAPES).set_flags(allows_duplicate_labels=False),
    "geo frame with numbers of reference systems": geopandas.GeoDataFrame(geometry=_NUMBERED),
    "geo series with numbers of reference systems": geopandas.GeoSeries(_NUMBERED, crs=4326),
    "polygons": geopandas.GeoSeries([shapely.Point(0, 0).buffer(1), shapely.MultiPoint([(0, 0), (1, 2)])], crs=25832),
}

_FRAME = pd.DataFrame({"a": [1, None], "c": pd.Categorical(["x", "y"])}, index=["r", "s"])
CONTAINERS: dict[str, Any] = {
    "list of frames": [_FRAME, pd.Series([1.5], name="s"), pd.DataFrame()],
    "tuple of a frame and an array": (_FRAME, np.arange(2000)),
    "dict of libraries": {"pandas": _FRAME, "arrow": pa.table({"a": [1]}), "polars": pl.DataFrame({"a": [1]})},
    "dict with tuple keys of arrays": {(1, "a"): np.arange(1500), (2, "b"): np.zeros((40, 40))},
    "deeply nested frame": {"folds": [{"fold": 0, "parts": ({"train": [_FRAME]},)}]},
    "dataclass of a frame": r.Report(1, [_FRAME, {"x": np.arange(1200)}]),
    "frozen dataclass of arrays": r.Frozen([np.arange(1001), None], r.Params(1)),
    "pydantic model of a frame": r.Frames(table=_FRAME, by_name={"big": np.arange(1100), "small": np.arange(2)}),
    "namedtuple of an array": r.Fitted(None, np.arange(1100)),
    "ordered dict of frames": OrderedDict(b=_FRAME, a=_FRAME.T),
    "default dict of arrays": defaultdict(list, {"a": [np.arange(1100)]}),
    "deque of frames": deque([_FRAME, 1], maxlen=3),
    "same frame twice": [_FRAME, _FRAME],
    "record of everything": r.Report(2, {"img": Image.new("L", (2, 2)), "text": HTMLString("x"), "x": sp.eye_array(3)}),
}

CONSTANTS = {**CONTAINERS, **TEXTS, **IMAGES, **FIGURES, **LABELLED, **GEOGRAPHIC}
