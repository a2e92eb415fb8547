"""The table of built-in materializers: who saves which type and reads which encoding, as strings; nothing is imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_PACKAGE = "airflow_zen.materializers"

MEMBERS_PREVIEW = f"{_PACKAGE}.typed_json.members:MembersPreview"

TYPED_JSON_TYPES = (
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
    "numpy.dtype",
    "pandas.Interval",
    "pandas.Period",
    "pandas.Timedelta",
    "pandas.Timestamp",
    "pandas._libs.tslibs.nattype.NaTType",
    "pandas._libs.missing.NAType",
    "pydantic.main.BaseModel",
)

_MATERIALIZERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "python.json@1": ("typed_json:TypedJsonMaterializer", TYPED_JSON_TYPES),
    "python.path@1": ("files:PathMaterializer", ("pathlib.Path",)),
    "cloudpickle@1": ("cloudpickle:PickleMaterializer", ()),
    "numpy.npy@1": ("numpy:NdarrayMaterializer", ("numpy.ndarray",)),
    "pyarrow.parquet@1": (
        "arrow:ArrowParquetMaterializer",
        ("pyarrow.Table", "pyarrow.RecordBatch", "pyarrow.RecordBatchReader", "pyarrow._dataset.Dataset"),
    ),
    "pyarrow.ipc@1": ("arrow:ArrowIpcMaterializer", ()),
    "pandas.parquet@1": ("pandas:PandasMaterializer", ("pandas.DataFrame", "pandas.Series", "pandas.Index")),
    "polars.parquet@1": ("polars:PolarsMaterializer", ("polars.DataFrame", "polars.Series", "polars.LazyFrame")),
    "sklearn.mlflow@1": ("sklearn:SklearnMaterializer", ("sklearn.base.BaseEstimator",)),
    "scipy.npy@1": (
        "scipy:SparseMaterializer",
        tuple(
            f"scipy.sparse.{name}_{kind}"
            for name in ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
            for kind in ("array", "matrix")
        ),
    ),
    "python.text@1": (
        "texts:TextMaterializer",
        tuple(f"{_PACKAGE}.texts.{name}String" for name in ("HTML", "Markdown", "CSV", "JSON")),
    ),
    "python.bytes@1": ("files:BytesMaterializer", ()),
    "xgboost.mlflow@1": ("xgboost:XgboostMaterializer", ("xgboost.Booster", "xgboost.XGBModel")),
    "lightgbm.mlflow@1": ("lightgbm:LightgbmMaterializer", ("lightgbm.Booster", "lightgbm.LGBMModel")),
    "onnx.mlflow@1": ("onnx:OnnxMaterializer", ("onnx.ModelProto",)),
    "directory.mlflow@1": ("mlflow_model:MLflowModelMaterializer", (f"{_PACKAGE}.mlflow_model.MLflowModel",)),
    "catboost.mlflow@1": ("catboost:CatboostMaterializer", ("catboost.CatBoost",)),
    "torch.safetensors@1": ("torch:TensorMaterializer", ("torch.Tensor", "torch.nn.Parameter")),
    "torch.state@1": ("torch:StateDictMaterializer", ()),
    "torch.module@1": ("torch:ModuleMaterializer", ("torch.nn.Module",)),
    "keras.mlflow@1": ("keras:KerasMaterializer", ("keras.Model",)),
    "tensorflow.tfrecord@1": (
        "tensorflow:TfDatasetMaterializer",
        ("tensorflow.python.data.ops.dataset_ops.DatasetV2",),
    ),
    "transformers.pretrained@1": (
        "transformers:PretrainedMaterializer",
        ("transformers.modeling_utils.PreTrainedModel", "transformers.tokenization_utils_base.PreTrainedTokenizerBase"),
    ),
    "datasets.arrow@1": (
        "datasets:DatasetsMaterializer",
        ("datasets.arrow_dataset.Dataset", "datasets.dataset_dict.DatasetDict"),
    ),
    "pillow.png@1": ("pillow:PillowMaterializer", ("PIL.Image.Image",)),
    "plotly.json@1": ("plotly:PlotlyMaterializer", ("plotly.basedatatypes.BaseFigure",)),
    "matplotlib.figure@1": ("matplotlib:FigureMaterializer", ("matplotlib.figure.Figure",)),
    "xarray.npy@1": ("xarray:XarrayMaterializer", ("xarray.Dataset", "xarray.DataArray")),
    "geopandas.wkb@1": ("geopandas:GeopandasMaterializer", ("geopandas.GeoDataFrame", "geopandas.GeoSeries")),
}
"""The class and the types of each encoding."""

ENCODINGS: Mapping[str, str] = {encoding: f"{_PACKAGE}.{cls}" for encoding, (cls, _) in _MATERIALIZERS.items()}
TYPES: Mapping[str, str] = {name: f"{_PACKAGE}.{cls}" for cls, types in _MATERIALIZERS.values() for name in types}

PREVIEW_ONLY: Mapping[str, str] = {
    f"{_PACKAGE}.evaluation.ClassificationEvaluation": f"{_PACKAGE}.evaluation:EvaluationPreview",
}
"""Who makes previews of types whose own materializer does not know them."""

ALTERNATIVES: Mapping[str, str] = {
    "builtins.function": "Return what it computes.",
    "builtins.generator": "Declare the output Iterator[pd.DataFrame], or return a list.",
    "builtins.builtin_function_or_method": "Return what it computes.",
    "builtins.BaseException": "Raise it, or return its text.",
    "builtins.dict_items": "Return a list of them.",
    "builtins.dict_keys": "Return a list of them.",
    "builtins.dict_values": "Return a list of them.",
    "builtins.mappingproxy": "Return dict(value).",
    "builtins.memoryview": "Return bytes(value).",
    "_io._IOBase": "Return what it holds, or the pathlib.Path of a file.",
    "array.array": "Return numpy.asarray(value).",
    "collections.ChainMap": "Return dict(value).",
    "collections.UserDict": "Return value.data.",
    "collections.UserList": "Return value.data.",
    "collections.UserString": "Return value.data.",
    "functools.partial": "Return what it computes.",
    "ipaddress._IPAddressBase": "Return str(value).",
    "pathlib.PurePath": "Return str(value), or the pathlib.Path of a file.",
    "re.Pattern": "Return value.pattern.",
    "types.SimpleNamespace": "Return vars(value), or a dataclass.",
    "pydantic.types.SecretStr": "A secret is not stored: give the task a connection.",
    "pydantic.networks._BaseUrl": "Return str(value), or declare the field str.",
    "numpy.poly1d": "Return value.coef.",
    "numpy.random.Generator": "Return value.bit_generator.state.",
    "numpy.random.RandomState": "Return value.get_state(legacy=False).",
    "scipy.spatial.KDTree": "Return value.data, and build it again.",
    "scipy.spatial.transform.Rotation": "Return value.as_quat().",
    "pandas.api.extensions.ExtensionArray": "Return pandas.Series(value).",
    "pandas.api.typing.Rolling": "Return the table that it goes over.",
    "pandas.io.formats.style.Styler": "Return airflow_zen.HTMLString(value.to_html()).",
    "pandas._libs.tslibs.BaseOffset": "Return value.freqstr.",
    "polars.Expr": "Return a frame that it is computed in.",
    "polars.dataframe.group_by.GroupBy": "Return the frame it groups.",
    "pyarrow.Array": "Return pyarrow.table({'values': value}).",
    "pyarrow.ChunkedArray": "Return pyarrow.table({'values': value}).",
    "pyarrow.Scalar": "Return value.as_py().",
    "pyarrow.Schema": "Return value.empty_table().",
    "pyarrow.Tensor": "Return value.to_numpy().",
    "shapely.geometry.base.BaseGeometry": "Return geopandas.GeoSeries([value]), or value.wkb.",
    "plotly.basedatatypes.BaseTraceType": "Return plotly.graph_objects.Figure(value).",
    "xarray.Variable": "Return xarray.DataArray(value).",
    "xarray.DataTree": "Return value.to_dict(), whose values are datasets.",
    "xgboost.DMatrix": "Return the table it was made of.",
    "lightgbm.Dataset": "Return the table it was made of.",
    "matplotlib.axes._axes.Axes": "Return the figure it belongs to, axes.figure.",
    "torch.optim.Optimizer": "Return optimizer.state_dict().",
    "torch.utils.data.DataLoader": "Return what it loads, as tensors or a dataset.",
    "torch.utils.data.Dataset": "Return its samples, as tensors or a dataset of Hugging Face.",
    "pandas.api.typing.DataFrameGroupBy": "Return the frame it groups.",
    "pandas.api.typing.SeriesGroupBy": "Return the series it groups.",
    # The names of pandas 2.
    "pandas.core.arrays.ExtensionArray": "Return pandas.Series(value).",
    "pandas.core.window.Rolling": "Return the table that it goes over.",
    "pandas.core.groupby.DataFrameGroupBy": "Return the frame it groups.",
    "pandas.core.groupby.SeriesGroupBy": "Return the series it groups.",
    "mlflow.pyfunc.PyFuncModel": "Return airflow_zen.MLflowModel(path) of the directory it was loaded from.",
    "mlflow.pyfunc.model.PythonModel": "Write it with mlflow.pyfunc.save_model and return airflow_zen.MLflowModel(path).",
}
"""What to return instead of types that have no exact form."""


def suggest_alternative(names: Iterable[str]) -> str:
    """Return the advice for a type that nobody saves, given the names of its classes, the nearest first."""
    return next((ALTERNATIVES[name] for name in names if name in ALTERNATIVES), "Return a type that has one.")
