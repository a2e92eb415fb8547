"""The table of built-in materializers by type and encoding, as dotted names, so that nothing is imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_PACKAGE = "airflow_zen.materializers"

MEMBERS_PREVIEW = f"{_PACKAGE}.typed_json.member_previews:MembersPreview"

_TYPED_JSON_NAMES = {
    "builtins": "NoneType bool int float complex str bytes bytearray list tuple dict set frozenset range slice",
    "collections": "deque",
    "datetime": "date time timedelta tzinfo",
    "decimal": "Decimal",
    "enum": "Enum",
    "fractions": "Fraction",
    "uuid": "UUID",
    "zoneinfo": "ZoneInfo",
    "numpy": "generic dtype",
    "pandas": "Interval Period Timedelta Timestamp",
    "pandas._libs.tslibs.nattype": "NaTType",
    "pandas._libs.missing": "NAType",
    "pydantic.main": "BaseModel",
}
TYPED_JSON_TYPES = tuple(f"{module}.{name}" for module, names in _TYPED_JSON_NAMES.items() for name in names.split())

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
    "sklearn.mlflow@3": ("sklearn:SklearnMaterializer", ("sklearn.base.BaseEstimator",)),
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
    "xgboost.mlflow@3": ("xgboost:XgboostMaterializer", ("xgboost.Booster", "xgboost.XGBModel")),
    "lightgbm.mlflow@3": ("lightgbm:LightgbmMaterializer", ("lightgbm.Booster", "lightgbm.LGBMModel")),
    "onnx.mlflow@2": ("onnx:OnnxMaterializer", ("onnx.ModelProto",)),
    "directory.mlflow@1": ("mlflow_model:MLflowModelMaterializer", (f"{_PACKAGE}.mlflow_model.MLflowModel",)),
    "catboost.mlflow@2": ("catboost:CatboostMaterializer", ("catboost.CatBoost",)),
    "torch.safetensors@1": ("torch:TensorMaterializer", ("torch.Tensor", "torch.nn.Parameter")),
    "torch.state@1": ("torch:StateDictMaterializer", ()),
    "torch.module@1": ("torch:ModuleMaterializer", ("torch.nn.Module",)),
    "keras.mlflow@2": ("keras:KerasMaterializer", ("keras.Model",)),
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
    "validation.report@1": (
        "airflow_zen.validation.report_materializer:ReportMaterializer",
        ("airflow_zen.validation.report.ValidationReport",),
    ),
    "validation.evaluation@1": (
        "airflow_zen.validation.report_materializer:EvaluationMaterializer",
        ("airflow_zen.validation.evaluation_report.EvaluationReport",),
    ),
    "whylogs.profile@1": (
        "airflow_zen.validation.whylogs:ProfileMaterializer",
        ("whylogs.core.view.dataset_profile_view.DatasetProfileView",),
    ),
    "geopandas.wkb@1": ("geopandas:GeopandasMaterializer", ("geopandas.GeoDataFrame", "geopandas.GeoSeries")),
}
"""The class and the types of each encoding."""

_NEWEST_MODELS = {"sklearn": 3, "lightgbm": 3, "xgboost": 3, "onnx": 2, "catboost": 2, "keras": 2}
_EARLIER = {
    f"{flavor}.mlflow@{version}": f"{flavor}.mlflow@{newest}"
    for flavor, newest in _NEWEST_MODELS.items()
    for version in range(1, newest)
}
_PATHS = {
    encoding: cls if cls.startswith("airflow_zen.") else f"{_PACKAGE}.{cls}"
    for encoding, (cls, _) in _MATERIALIZERS.items()
}

ENCODINGS: Mapping[str, str] = {**_PATHS, **{name: _PATHS[later] for name, later in _EARLIER.items()}}
TYPES: Mapping[str, str] = {name: _PATHS[encoding] for encoding, (_, types) in _MATERIALIZERS.items() for name in types}

ESTIMATOR_METHODS = frozenset({"transform", "predict", "fit_transform", "fit_predict", "score_samples"})
"""A class with `fit` and one of these follows scikit-learn's API, whatever its bases are."""

PREVIEW_ONLY: Mapping[str, str] = {
    f"{_PACKAGE}.evaluation.ClassificationEvaluation": f"{_PACKAGE}.evaluation:EvaluationPreview",
}
"""Who makes previews of types whose own materializer does not know them."""

_NAMES_BY_ADVICE: Mapping[str, tuple[str, ...]] = {
    "Return what it computes.": (
        "builtins.function",
        "builtins.builtin_function_or_method",
        "builtins.method",
        "functools.partial",
    ),
    "Return value.name.": ("logging.Logger",),
    "Return value.__name__.": ("builtins.type", "builtins.module"),
    "Declare the output Iterator[pd.DataFrame], or return a list.": ("builtins.generator",),
    "Raise it, or return str(value).": ("builtins.BaseException",),
    "Return list(value).": ("builtins.dict_items", "builtins.dict_keys", "builtins.dict_values"),
    "Return dict(value).": ("builtins.mappingproxy", "collections.ChainMap", "transformers.utils.generic.ModelOutput"),
    "Return bytes(value).": ("builtins.memoryview",),
    "Return value.getvalue().": ("_io.BytesIO", "_io.StringIO"),
    "Return the pathlib.Path of its file.": ("_io._IOBase",),
    "Return numpy.asarray(value).": ("array.array",),
    "Return value.data.": ("collections.UserDict", "collections.UserList", "collections.UserString"),
    "Return str(value).": ("ipaddress._IPAddressBase",),
    "Return str(value), or the pathlib.Path of a file.": ("pathlib.PurePath",),
    "Return value.pattern.": ("re.Pattern",),
    "Return vars(value), or a dataclass.": ("types.SimpleNamespace",),
    "A secret is not stored: give the task a connection.": ("pydantic.types.SecretStr",),
    "Return str(value), or declare the field str.": ("pydantic.networks._BaseUrl",),
    "Return value.coef.": ("numpy.poly1d",),
    "Return value.bit_generator.state.": ("numpy.random.Generator",),
    "Return value.get_state(legacy=False).": ("numpy.random.RandomState",),
    "Return value.data, and build it again.": ("scipy.spatial.KDTree",),
    "Return value.as_quat().": ("scipy.spatial.transform.Rotation",),
    # The names in `pandas.core` are those of pandas 2.
    "Return pandas.Series(value).": ("pandas.api.extensions.ExtensionArray", "pandas.core.arrays.ExtensionArray"),
    "Return the table that it goes over.": ("pandas.api.typing.Rolling", "pandas.core.window.Rolling"),
    "Return airflow_zen.HTMLString(value.to_html()).": ("pandas.io.formats.style.Styler",),
    "Return value.freqstr.": ("pandas._libs.tslibs.BaseOffset",),
    "Return a frame that it is computed in.": ("polars.Expr",),
    "Return the frame it groups.": (
        "polars.dataframe.group_by.GroupBy",
        "pandas.api.typing.DataFrameGroupBy",
        "pandas.core.groupby.DataFrameGroupBy",
    ),
    "Return pyarrow.table({'values': value}).": ("pyarrow.Array", "pyarrow.ChunkedArray"),
    "Return value.as_py().": ("pyarrow.Scalar",),
    "Return value.empty_table().": ("pyarrow.Schema",),
    "Return value.to_numpy().": ("pyarrow.Tensor",),
    "Return geopandas.GeoSeries([value]), or value.wkb.": ("shapely.geometry.base.BaseGeometry",),
    "Return plotly.graph_objects.Figure(value).": ("plotly.basedatatypes.BaseTraceType",),
    "Return xarray.DataArray(value).": ("xarray.Variable",),
    "Return the table it was made of.": ("xgboost.DMatrix", "lightgbm.Dataset"),
    "Return value.figure.": ("matplotlib.axes._axes.Axes",),
    "Return value.state_dict().": ("torch.optim.Optimizer", "torch.optim.lr_scheduler.LRScheduler"),
    "Return value.get_state().": ("torch.Generator",),
    "Return value.lightning_module, or pathlib.Path(value.checkpoint_callback.best_model_path).": (
        "lightning.pytorch.trainer.trainer.Trainer",
        "pytorch_lightning.trainer.trainer.Trainer",
    ),
    "Return value.model.": ("transformers.trainer.Trainer",),
    "Return {'model': value.model, 'tokenizer': value.tokenizer}.": ("transformers.pipelines.base.Pipeline",),
    "Return value.to_dict().": (
        "xarray.DataTree",
        "transformers.configuration_utils.PreTrainedConfig",
        "transformers.configuration_utils.PretrainedConfig",
        "transformers.generation.configuration_utils.GenerationConfig",
        "transformers.training_args.TrainingArguments",
        "datasets.features.features.Features",
    ),
    "Return {'predictions': value.predictions, 'labels': value.label_ids}.": (
        "transformers.trainer_utils.EvalPrediction",
    ),
    "Return value.to_str().": ("tokenizers.Tokenizer",),
    "Return datasets.Dataset.from_list(list(value), features=value.features).": (
        "datasets.iterable_dataset.IterableDataset",
    ),
    "Return {name: datasets.Dataset.from_list(list(rows)) for name, rows in value.items()}.": (
        "datasets.dataset_dict.IterableDatasetDict",
    ),
    "Call value.save_pretrained('processor') and return pathlib.Path('processor').": (
        "transformers.image_processing_base.ImageProcessingMixin",
        "transformers.feature_extraction_utils.FeatureExtractionMixin",
        "transformers.processing_utils.ProcessorMixin",
    ),
    "Return value.numpy().": (
        "tensorflow.python.framework.tensor.Tensor",
        "tensorflow.python.ops.variables.Variable",
        "keras.Variable",
    ),
    "Return [each.numpy() for each in (value.flat_values, *value.nested_row_splits)].": (
        "tensorflow.python.ops.ragged.ragged_tensor.RaggedTensor",
    ),
    "Return [each.numpy() for each in (value.indices, value.values, value.dense_shape)].": (
        "tensorflow.python.framework.sparse_tensor.SparseTensor",
    ),
    "Call tensorflow.saved_model.save(value, 'model') and return pathlib.Path('model').": (
        "tensorflow.python.module.module.Module",
    ),
    "Return keras.Sequential([value]).": ("keras.Layer",),
    "Return value.history.": ("keras.src.callbacks.History",),
    "Return keras.saving.serialize_keras_object(value).": (
        "keras.Optimizer",
        "keras.Loss",
        "keras.Metric",
        "keras.Initializer",
        "keras.Regularizer",
        "keras.src.optimizers.schedules.learning_rate_schedule.LearningRateSchedule",
        "keras.src.random.SeedGenerator",
    ),
    "Return value.trials_dataframe(), or value.best_params.": ("optuna.study.study.Study",),
    "Return networkx.node_link_data(value, edges='edges').": ("networkx.classes.graph.Graph",),
    "Return value.content.": ("requests.models.Response",),
    "Return what it loads, as tensors or a dataset.": ("torch.utils.data.DataLoader",),
    "Return its samples, as tensors or a dataset of Hugging Face.": ("torch.utils.data.Dataset",),
    "Return the series it groups.": ("pandas.api.typing.SeriesGroupBy", "pandas.core.groupby.SeriesGroupBy"),
    "Return airflow_zen.MLflowModel(path) of the directory it was loaded from.": ("mlflow.pyfunc.PyFuncModel",),
    "Write it with mlflow.pyfunc.save_model and return airflow_zen.MLflowModel(path).": (
        "mlflow.pyfunc.model.PythonModel",
    ),
}
_ALTERNATIVES: Mapping[str, str] = {name: advice for advice, names in _NAMES_BY_ADVICE.items() for name in names}

GENERAL_ADVICE = (
    "A value of any type can be written with its own library and returned as the pathlib.Path of the file, a model of MLflow "
    "as airflow_zen.MLflowModel(path), or saved by a materializer of ten lines ('Your own types' in the documentation of "
    "steps); or set [zen] allow_pickle = True."
)
"""The advice that applies to every type."""


def alternative(names: Iterable[str]) -> str:
    """Return what to return instead of a type that is not stored, by the names of it and its bases; "" if unknown."""
    return next(filter(None, map(_ALTERNATIVES.get, names)), "")
