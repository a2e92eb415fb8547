"""Which materializer, in which file, saves which type and reads which encoding; strings, nothing imported."""

from __future__ import annotations

from collections.abc import Mapping

_HERE = "airflow_zen.materializers"

TREE = f"{_HERE}.tree:TreeMaterializer"
PATH = f"{_HERE}.paths:PathMaterializer"
PICKLE = f"{_HERE}.pickle:PickleMaterializer"
_NDARRAY = f"{_HERE}.numpy:NdarrayMaterializer"
_ARROW = f"{_HERE}.arrow:ArrowParquetMaterializer"
_ARROW_IPC = f"{_HERE}.arrow:ArrowIpcMaterializer"
_PANDAS = f"{_HERE}.pandas:PandasMaterializer"
_POLARS = f"{_HERE}.polars:PolarsMaterializer"
_SKLEARN = f"{_HERE}.sklearn:SklearnMaterializer"
_SPARSE = f"{_HERE}.scipy:SparseMaterializer"
_TEXT = f"{_HERE}.texts:TextMaterializer"
_XGBOOST = f"{_HERE}.xgboost:XgboostMaterializer"
_LIGHTGBM = f"{_HERE}.lightgbm:LightgbmMaterializer"
_ONNX = f"{_HERE}.onnx:OnnxMaterializer"
_PILLOW = f"{_HERE}.pillow:PillowMaterializer"
_PLOTLY = f"{_HERE}.plotly:PlotlyMaterializer"
_XARRAY = f"{_HERE}.xarray:XarrayMaterializer"
_GEOPANDAS = f"{_HERE}.geopandas:GeopandasMaterializer"

TREE_TYPES = (
    "builtins.NoneType",
    "builtins.bool",
    "builtins.int",
    "builtins.float",
    "builtins.complex",
    "builtins.str",
    "builtins.bytes",
    "builtins.bytearray",
    "builtins.list",
    "builtins.tuple",
    "builtins.dict",
    "builtins.set",
    "builtins.frozenset",
    "builtins.range",
    "builtins.slice",
    "collections.deque",
    "datetime.date",
    "datetime.time",
    "datetime.timedelta",
    "datetime.tzinfo",
    "decimal.Decimal",
    "enum.Enum",
    "fractions.Fraction",
    "uuid.UUID",
    "zoneinfo.ZoneInfo",
    "numpy.generic",
    "pandas.Interval",
    "pandas.Period",
    "pandas.Timedelta",
    "pandas.Timestamp",
    "pandas._libs.tslibs.nattype.NaTType",
    "pandas._libs.missing.NAType",
    "pydantic.main.BaseModel",
)

TYPES: Mapping[str, str] = {
    **dict.fromkeys(TREE_TYPES, TREE),
    "pathlib.Path": PATH,
    "numpy.ndarray": _NDARRAY,
    "pyarrow.Table": _ARROW,
    "pyarrow.RecordBatch": _ARROW,
    "pyarrow.RecordBatchReader": _ARROW,
    "pandas.DataFrame": _PANDAS,
    "pandas.Series": _PANDAS,
    "pandas.Index": _PANDAS,
    "polars.DataFrame": _POLARS,
    "polars.Series": _POLARS,
    "polars.LazyFrame": _POLARS,
    "sklearn.base.BaseEstimator": _SKLEARN,
    **{
        f"scipy.sparse.{name}_{kind}": _SPARSE
        for name in ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
        for kind in ("array", "matrix")
    },
    **{f"{_HERE}.texts.{name}String": _TEXT for name in ("HTML", "Markdown", "CSV", "JSON")},
    "xgboost.Booster": _XGBOOST,
    "xgboost.XGBModel": _XGBOOST,
    "lightgbm.Booster": _LIGHTGBM,
    "lightgbm.LGBMModel": _LIGHTGBM,
    "onnx.ModelProto": _ONNX,
    "PIL.Image.Image": _PILLOW,
    "plotly.basedatatypes.BaseFigure": _PLOTLY,
    "xarray.Dataset": _XARRAY,
    "xarray.DataArray": _XARRAY,
    "geopandas.GeoDataFrame": _GEOPANDAS,
    "geopandas.GeoSeries": _GEOPANDAS,
}

ENCODINGS: Mapping[str, str] = {
    "python.json@1": TREE,
    "python.path@1": PATH,
    "cloudpickle@1": PICKLE,
    "numpy.npy@1": _NDARRAY,
    "pyarrow.parquet@1": _ARROW,
    "pyarrow.ipc@1": _ARROW_IPC,
    "pandas.parquet@1": _PANDAS,
    "polars.parquet@1": _POLARS,
    "sklearn.mlflow@1": _SKLEARN,
    "scipy.npy@1": _SPARSE,
    "python.text@1": _TEXT,
    "xgboost.mlflow@1": _XGBOOST,
    "lightgbm.mlflow@1": _LIGHTGBM,
    "onnx.mlflow@1": _ONNX,
    "pillow.png@1": _PILLOW,
    "plotly.json@1": _PLOTLY,
    "xarray.npy@1": _XARRAY,
    "geopandas.wkb@1": _GEOPANDAS,
}
