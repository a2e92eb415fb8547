"""A value that would not come back exactly is refused, with a reason that names the way out."""

from __future__ import annotations

import io
import ipaddress
import os
from collections import Counter, OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path, PureWindowsPath
from typing import Any
from zoneinfo import ZoneInfo

import dateutil.tz
import geopandas
import lightgbm
import matplotlib.figure
import numpy as np
import pandas as pd
import pendulum
import plotly.basedatatypes
import plotly.graph_objects as go
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import shapely
import xarray as xr
import xgboost
from numpy.ma.mrecords import fromarrays
from pandas.tests.extension.decimal.array import to_decimal
from PIL import Image
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from airflow_zen.errors import MaterializerNotFound, SaveRefused
from airflow_zen.materializers.registry import default_registry
from airflow_zen.materializers.texts import HTMLString
from tests.materializers import records as r

Misnamed = namedtuple("Elsewhere", ["a"])  # noqa: PYI024


class Noted(namedtuple("Noted", ["a"])):  # noqa: PYI024, SLOT002
    pass


class MyFrame(pd.DataFrame):
    pass


class MyPolars(pl.DataFrame):
    pass


class MyHTML(HTMLString):
    pass


class _MySparse(scipy.sparse.csr_array):
    pass


class MyGeoFrame(geopandas.GeoDataFrame):
    pass


class MyArray(np.ndarray[Any, Any]):
    pass


def _local_dataclass() -> Any:
    @dataclass
    class Local:
        a: int

    return Local(1)


def _cycle() -> list[Any]:
    value: list[Any] = [1]
    value.append({"me": value})
    return value


def _cyclic_array() -> Any:
    value = np.empty(1, object)
    value[0] = [value]
    return value


def _deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    return value


def _counter_with_attribute() -> Any:
    value = Counter("a")
    value.note = 1  # type: ignore[attr-defined]
    return value


def _dataclass_with_attribute() -> Any:
    value = r.Params(1)
    value.note = 1  # type: ignore[attr-defined]
    return value


def _tuple_with_attribute() -> Any:
    value = Noted(1)
    value.note = 1  # type: ignore[attr-defined]
    return value


def _sparse_objects() -> Any:
    value = scipy.sparse.coo_array([[1, 0]])
    # The constructor refuses objects.
    value.data = value.data.astype(object)
    return value


def _zone_from_file() -> ZoneInfo:
    import tzdata

    with (Path(tzdata.__file__).parent / "zoneinfo" / "UTC").open("rb") as file:
        return ZoneInfo.from_file(file)


def _memmap(directory: Path) -> Any:
    return np.memmap(directory / "m", dtype="f4", mode="w+", shape=3)


def _outer_link(directory: Path) -> Path:
    root = directory / "root"
    root.mkdir()
    (root / "passwd").symlink_to("/etc/hostname")
    return root


def _linked_directory(directory: Path) -> Path:
    root = directory / "root"
    (root / "sub").mkdir(parents=True)
    (root / "again").symlink_to("sub")
    return root


def _pipe(directory: Path) -> Path:
    root = directory / "root"
    root.mkdir()
    os.mkfifo(root / "pipe")
    return root


def _bad_name(directory: Path) -> Path:
    root = directory / "root"
    root.mkdir()
    Path(os.fsdecode(os.fsencode(root) + b"/\xff")).touch()
    return root


def _opened_image(directory: Path) -> Any:
    Image.new("L", (2, 2)).save(directory / "a.png")
    return Image.open(directory / "a.png")


def _image_with_object() -> Any:
    image = Image.new("L", (1, 1))
    image.info["mine"] = r.Plain(1)
    return image


def _own_index() -> xr.DataArray:
    return xr.DataArray([1, 2], dims="x", coords={"x": [1, 2]}).to_dataset(name="a").set_xindex("x", _NoIndex)


class _NoIndex(xr.indexes.PandasIndex):
    pass


def _arrow_with_own_key() -> pa.Table:
    return pa.table({"a": [1]}).replace_schema_metadata({"airflow_zen": "mine"})


def _cbday() -> pd.DataFrame:
    freq = pd.offsets.CustomBusinessDay(holidays=["2024-01-02"])
    return pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2024", periods=2, freq=freq))


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "subclass of dict": (lambda _: r.MyDict(a=1), "MyDict"),
    "subclass of int": (lambda _: r.MyInt(1), "MyInt"),
    "subclass of str": (lambda _: r.MyStr("a"), "MyStr"),
    "subclass of list, inside": (
        lambda _: {"a": [r.MyList()]},
        "In ['a'][0]: A value of type tests.materializers.records.MyList",
    ),
    "subclass of str as key": (lambda _: {r.MyStr("a"): 1}, "MyStr"),
    "struct sequence": (lambda _: os.stat("/"), "stat_result"),
    "cycle": (lambda _: _cycle(), "A list contains itself. Leave that reference out."),
    "too deep": (lambda _: _deep(), "levels deep"),
    "local class": (lambda _: _local_dataclass(), "top level of a module"),
    "namedtuple under another name": (lambda _: Misnamed(1), "cannot be found again"),
    "named tuple with an attribute": (lambda _: _tuple_with_attribute(), "Use a dataclass"),
    "dataclass that is a list": (lambda _: r.ListWithFields(), "it is a list beside its fields"),
    "dataclass with an attribute": (lambda _: _dataclass_with_attribute(), "note are no fields"),
    "counter with an attribute": (lambda _: _counter_with_attribute(), "attributes of its own"),
    "ordereddict subclass": (lambda _: type("Mine", (OrderedDict,), {})(), "Mine"),
    "defaultdict of a lambda": (lambda _: defaultdict(lambda: 1), "its factory"),
    "pendulum interval": (lambda _: pendulum.datetime(2024, 1, 2) - pendulum.datetime(2024, 1, 1), "Interval"),
    "dateutil zone": (lambda _: dateutil.tz.gettz("Europe/Paris"), "tzfile"),
    "zone from a file": (lambda _: _zone_from_file(), "no key to find it by"),
    "path in a set": (lambda directory: {directory}, "in a set"),
    "type in a set": (lambda _: {r.Frozen, 1}, "No materializer saves"),
    "unknown class": (lambda _: r.Plain(1), "No materializer saves tests.materializers.records.Plain"),
    "unknown class, inside": (lambda _: [r.Plain(1)], "allow_pickle"),
    "array that contains itself": (lambda _: _cyclic_array(), "contains itself"),
    "generic dataclass that knows of what": (lambda _: r.Box[int](1), "Make it as Box"),
    "pydantic model made for a type": (lambda _: r.Holder[int](item=1), "Give it one: class Named(Holder[int]): ..."),
    "function": (lambda _: len, "Return what it computes"),
    "bytes in memory": (lambda _: io.BytesIO(b"x"), "Return value.getvalue()."),
    "array of pandas": (lambda _: pd.array([1], dtype="Int64"), "pandas.Series(value)"),
    "array of Arrow": (lambda _: pa.array([1]), "pyarrow.table"),
    "geometry": (lambda _: shapely.Point(0, 0), "geopandas.GeoSeries([value])"),
    "trace of plotly": (lambda _: go.Scatter(), "graph_objects.Figure(value)"),
    "address": (lambda _: ipaddress.ip_address("::1"), "str(value)"),
    "path of elsewhere": (lambda _: PureWindowsPath("C:/a"), "str(value)"),
    "type": (lambda _: int, "No materializer saves"),
    "module": (lambda _: os, "No materializer saves"),
    "generator": (lambda _: (i for i in [1]), "No materializer saves"),
    "memmap": (_memmap, "would come back as another type. Return numpy.asarray(value)."),
    "array subclass": (lambda _: np.zeros(2).view(MyArray), "numpy.asarray"),
    "object in an object array": (lambda _: np.array([r.Plain(1)], dtype=object), "Plain"),
    "structured objects": (lambda _: np.zeros(1, [("a", "O")]), "object fields"),
    "dtype with metadata": (lambda _: np.zeros(1, np.dtype("f8", metadata={"a": 1})), "does not keep the dtype"),
    "structured dtype": (lambda _: np.dtype([("a", "i4")]), "it has no exact name"),
    "dtype alone with metadata": (lambda _: np.dtype("f8", metadata={"a": 1}), "it has no exact name"),
    "dtype of texts": (lambda _: np.dtypes.StringDType(), "it has no exact name"),
    "longdouble scalar": (lambda _: np.longdouble(1), "differ between machines"),
    "structured scalar": (lambda _: np.zeros(1, [("a", "i4")])[0], "no exact JSON form"),
    "frame subclass": (
        lambda _: MyFrame({"a": [1]}),
        "would come back as its base class. Return pandas.DataFrame(value).",
    ),
    "frame in a cell": (lambda _: pd.DataFrame({"a": [pd.DataFrame()]}), "a cell of a table"),
    "unknown object in a cell": (lambda _: pd.DataFrame({"a": [r.Plain(1)]}), "Plain"),
    "longdouble column": (lambda _: pd.DataFrame({"a": np.zeros(1, np.longdouble)}), "dtype that Arrow has"),
    "frequency that has no name": (
        lambda _: pd.Series([1], index=pd.date_range("2024", periods=1, freq=pd.DateOffset(months=1, days=2))),
        "Set index.freq to None",
    ),
    "frequency of feasts": (
        lambda _: pd.Series([1], index=pd.date_range("2024", periods=1, freq=pd.offsets.Easter())),
        "Set index.freq to None",
    ),
    "period that has no name": (
        lambda _: pd.Series(pd.arrays.PeriodArray(np.array([2800]), dtype=pd.PeriodDtype(pd.offsets.Week()))),
        "a frequency that has a name, such as 'W-SUN'",
    ),
    "geometry column of a pandas frame": (
        lambda _: pd.DataFrame({"g": geopandas.array.from_shapely([shapely.Point(0, 0)])}),
        "Convert the column with .astype(str), or",
    ),
    "column of an own dtype": (
        lambda _: pd.DataFrame({"a": to_decimal([Decimal("1.5"), Decimal(2)])}),
        "or with .astype(object) if its elements can be stored",
    ),
    "masked records": (lambda _: fromarrays([np.array([1])], names="a"), "numpy.ma.MaskedArray(value, subok=False)"),
    "categories in a dataset": (
        lambda _: xr.Dataset({"a": ("x", pd.Categorical(["a"]))}),
        "value['a'].astype(object)",
    ),
    "frequency with holidays": (lambda _: _cbday(), "Set index.freq to None"),
    "arrow dictionary column": (
        lambda _: pd.DataFrame({"a": pd.array(["x"], pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string())))}),
        "pyarrow.Table.from_pandas",
    ),
    "unknown object as column name": (lambda _: pd.DataFrame([[1]], columns=[r.Plain(1)]), "Plain"),
    "arrow table with our key": (lambda _: _arrow_with_own_key(), "airflow_zen"),
    "column of a dateutil zone": (
        lambda _: pd.DataFrame({"a": pd.date_range("2024", periods=1, tz=dateutil.tz.gettz("Europe/Paris"))}),
        "zoneinfo.ZoneInfo",
    ),
    "seconds beyond milliseconds": (lambda _: pd.DataFrame({"a": np.array([2**62], "M8[s]")}), "does not fit"),
    "Arrow seconds beyond milliseconds": (
        lambda _: pa.table({"a": pa.array([2**62], pa.timestamp("s"))}),
        "such as timestamp[ms]",
    ),
    "Arrow dictionaries in pandas": (
        lambda _: pd.Series(["x"], dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))),
        "pyarrow.Table.from_pandas",
    ),
    "overlapping fields": (
        lambda _: np.zeros(2, np.dtype({"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 2]})),
        "arrays of their own",
    ),
    "polars subclass": (
        lambda _: MyPolars({"a": [1]}),
        "would come back as its base class. Return polars.DataFrame(value).",
    ),
    "polars frames one by one": (lambda _: iter([pl.DataFrame({"a": [1]})]), "Return a polars.LazyFrame, which"),
    "lazy frame in a list": (lambda _: [pl.LazyFrame({"a": [1]})], "Collect it first"),
    "iterator of nothing": (lambda _: iter([]), "Yield at least one"),
    "polars objects": (lambda _: pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object)}), "Cast"),
    "polars empty struct": (lambda _: pl.DataFrame({"a": pl.Series([{}], dtype=pl.Struct([]))}), "Cast"),
    "lambda in a pipeline": (lambda _: make_pipeline(FunctionTransformer(lambda x: x)), "Define it with def"),
    "subclass of a text": (lambda _: MyHTML("x"), "subclass"),
    "text that is not UTF-8": (lambda _: HTMLString("\ud800"), "surrogates not allowed. Replace its surrogates."),
    "sparse subclass": (lambda _: _MySparse((1, 1)), "come back as scipy.sparse.csr_array"),
    "sparse objects": (
        lambda _: _sparse_objects(),
        "Convert it with .astype(float)",
    ),
    "opened image": (_opened_image, "would come back as PIL.Image.Image. Return image.copy()."),
    "unknown object in an image": (lambda _: _image_with_object(), "Plain"),
    "figure widget": (
        lambda _: plotly.basedatatypes.BaseFigure(),
        "would come back as Figure. Return go.Figure(value).",
    ),
    "data array with an own index": (lambda _: _own_index(), "drop_indexes"),
    "linear ring": (
        lambda _: geopandas.GeoSeries([None, shapely.LinearRing([(0, 0), (1, 0), (1, 1)])], name="g"),
        "in 'g'",
    ),
    "figure with keys of two types": (lambda _: go.Figure(go.Scatter(meta={1: 2, "a": 3})), "strings as keys"),
    "geo frame subclass": (lambda _: MyGeoFrame({"a": [1]}), "come back as geopandas.GeoDataFrame"),
    "xgboost with a lambda as objective": (lambda _: xgboost.XGBRegressor(objective=lambda y, p: (y, p)), "with def"),
    "lightgbm with a lambda as objective": (
        lambda _: lightgbm.LGBMRegressor(objective=lambda y, p: (y, p)),
        "with def",
    ),
    "matplotlib axes": (lambda _: matplotlib.figure.Figure().subplots(), "Return value.figure."),
    "grouped frame": (lambda _: pd.DataFrame({"a": [1]}).groupby("a"), "Return the frame it groups"),
    "missing path": (lambda directory: directory / "nowhere", "not a file or directory"),
    "root path": (lambda _: Path("/"), "no name of its own"),
    "link that leaves": (_outer_link, "or leads to no file. Copy what it points to."),
    "link to a directory": (_linked_directory, "symbolic link"),
    "pipe": (_pipe, "is neither file nor directory. Remove it."),
    "file name that is no text": (_bad_name, "not UTF-8"),
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_value_is_refused_with_a_reason(make: Callable[[Path], Any], reason: str, tmp_path: Path) -> None:
    """A value that would come back changed, or not at all, is not saved, and the error says why."""
    (tmp_path / "source").mkdir()
    (tmp_path / "artifact").mkdir()
    value = make(tmp_path / "source")
    with pytest.raises((SaveRefused, MaterializerNotFound)) as refusal:
        default_registry().save(value, tmp_path / "artifact")
    assert reason in str(refusal.value)
