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
}
