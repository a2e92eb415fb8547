"""Which materializer, in which file, saves which type and reads which encoding; strings, nothing imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_PACKAGE = "airflow_zen.materializers"

TYPED_JSON = f"{_PACKAGE}.typed_json:TypedJsonMaterializer"
MEMBERS_PREVIEW = f"{_PACKAGE}.typed_json:MembersPreview"
PATH = f"{_PACKAGE}.files:PathMaterializer"
PICKLE = f"{_PACKAGE}.cloudpickle:PickleMaterializer"
_NDARRAY = f"{_PACKAGE}.numpy:NdarrayMaterializer"
_ARROW = f"{_PACKAGE}.arrow:ArrowParquetMaterializer"
_ARROW_IPC = f"{_PACKAGE}.arrow:ArrowIpcMaterializer"
_PANDAS = f"{_PACKAGE}.pandas:PandasMaterializer"
_POLARS = f"{_PACKAGE}.polars:PolarsMaterializer"
_SKLEARN = f"{_PACKAGE}.sklearn:SklearnMaterializer"
_SPARSE = f"{_PACKAGE}.scipy:SparseMaterializer"
_BYTES = f"{_PACKAGE}.files:BytesMaterializer"
_TEXT = f"{_PACKAGE}.texts:TextMaterializer"
_XGBOOST = f"{_PACKAGE}.xgboost:XgboostMaterializer"
_LIGHTGBM = f"{_PACKAGE}.lightgbm:LightgbmMaterializer"
_ONNX = f"{_PACKAGE}.onnx:OnnxMaterializer"
_MLFLOW = f"{_PACKAGE}.mlflow_model:MLflowModelMaterializer"
_CATBOOST = f"{_PACKAGE}.catboost:CatboostMaterializer"
_TENSOR = f"{_PACKAGE}.torch:TensorMaterializer"
_STATE_DICT = f"{_PACKAGE}.torch:StateDictMaterializer"
_MODULE = f"{_PACKAGE}.torch:ModuleMaterializer"
_KERAS = f"{_PACKAGE}.keras:KerasMaterializer"
_TF_DATASET = f"{_PACKAGE}.tensorflow:TfDatasetMaterializer"
_PRETRAINED = f"{_PACKAGE}.transformers:PretrainedMaterializer"
_DATASETS = f"{_PACKAGE}.datasets:DatasetsMaterializer"
_PILLOW = f"{_PACKAGE}.pillow:PillowMaterializer"
_PLOTLY = f"{_PACKAGE}.plotly:PlotlyMaterializer"
_FIGURE = f"{_PACKAGE}.matplotlib:FigureMaterializer"
_XARRAY = f"{_PACKAGE}.xarray:XarrayMaterializer"
_GEOPANDAS = f"{_PACKAGE}.geopandas:GeopandasMaterializer"

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

TYPES: Mapping[str, str] = {
    **dict.fromkeys(TYPED_JSON_TYPES, TYPED_JSON),
    "pathlib.Path": PATH,
    "numpy.ndarray": _NDARRAY,
    "pyarrow.Table": _ARROW,
    "pyarrow.RecordBatch": _ARROW,
    "pyarrow.RecordBatchReader": _ARROW,
    "pyarrow._dataset.Dataset": _ARROW,
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
    **{f"{_PACKAGE}.texts.{name}String": _TEXT for name in ("HTML", "Markdown", "CSV", "JSON")},
    "xgboost.Booster": _XGBOOST,
    "xgboost.XGBModel": _XGBOOST,
    "lightgbm.Booster": _LIGHTGBM,
    "lightgbm.LGBMModel": _LIGHTGBM,
    "onnx.ModelProto": _ONNX,
    f"{_PACKAGE}.mlflow_model.MLflowModel": _MLFLOW,
    "catboost.CatBoost": _CATBOOST,
    "torch.Tensor": _TENSOR,
    "torch.nn.Parameter": _TENSOR,
    "torch.nn.Module": _MODULE,
    "keras.Model": _KERAS,
    "tensorflow.python.data.ops.dataset_ops.DatasetV2": _TF_DATASET,
    "transformers.modeling_utils.PreTrainedModel": _PRETRAINED,
    "transformers.tokenization_utils_base.PreTrainedTokenizerBase": _PRETRAINED,
    "datasets.arrow_dataset.Dataset": _DATASETS,
    "datasets.dataset_dict.DatasetDict": _DATASETS,
    "PIL.Image.Image": _PILLOW,
    "plotly.basedatatypes.BaseFigure": _PLOTLY,
    "matplotlib.figure.Figure": _FIGURE,
    "xarray.Dataset": _XARRAY,
    "xarray.DataArray": _XARRAY,
    "geopandas.GeoDataFrame": _GEOPANDAS,
    "geopandas.GeoSeries": _GEOPANDAS,
}

PREVIEW_ONLY: Mapping[str, str] = {
    f"{_PACKAGE}.evaluation.ClassificationEvaluation": f"{_PACKAGE}.evaluation:EvaluationPreview",
}
"""Who shows types that are stored by materializers which do not know them."""

ENCODINGS: Mapping[str, str] = {
    "python.json@1": TYPED_JSON,
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
    "python.bytes@1": _BYTES,
    "xgboost.mlflow@1": _XGBOOST,
    "lightgbm.mlflow@1": _LIGHTGBM,
    "onnx.mlflow@1": _ONNX,
    "directory.mlflow@1": _MLFLOW,
    "catboost.mlflow@1": _CATBOOST,
    "torch.safetensors@1": _TENSOR,
    "torch.state@1": _STATE_DICT,
    "torch.module@1": _MODULE,
    "keras.mlflow@1": _KERAS,
    "tensorflow.tfrecord@1": _TF_DATASET,
    "transformers.pretrained@1": _PRETRAINED,
    "datasets.arrow@1": _DATASETS,
    "pillow.png@1": _PILLOW,
    "plotly.json@1": _PLOTLY,
    "matplotlib.figure@1": _FIGURE,
    "xarray.npy@1": _XARRAY,
    "geopandas.wkb@1": _GEOPANDAS,
}

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
"""What to return in the place of types that are known to have no exact form."""


def suggest_alternative(names: Iterable[str]) -> str:
    """Say what to return in the place of a type, given the names of its classes, the nearest first."""
    return next((ALTERNATIVES[name] for name in names if name in ALTERNATIVES), "Return a type that has one.")
