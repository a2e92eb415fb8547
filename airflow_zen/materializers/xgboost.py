"""XGBoost boosters and scikit-learn wrappers as MLflow Model directories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.base import require_exact_type
from airflow_zen.materializers.mlflow_model import ModelMaterializer, WrittenModel
from airflow_zen.type_names import class_reference, resolve_class

MODEL_FILE = "model.ubj"
CONFIG_FILE = "config.json"

_FUNCTIONS = ("objective", "eval_metric")


class XgboostMaterializer(ModelMaterializer):
    """Save a model in the layout of `mlflow.xgboost.save_model`, and beside it what that leaves out.

    Kept exactly: the trees, the booster's configuration and attributes, the wrapper's parameters and results.
    An own objective or metric is kept by its name. Refused: lambdas, and callbacks.
    """

    types = ("xgboost.Booster", "xgboost.XGBModel")
    encoding = "xgboost.mlflow@2"
    reads = ("xgboost.mlflow@1",)
    libraries = ("xgboost", "xgboost-cpu")
    extra = "xgboost"
    requirements = ("numpy", "pandas", "scikit-learn", "scipy", "xgboost")

    def write(self, model: Any, directory: Path) -> WrittenModel:
        """Write `model.ubj` and `config.json` of a fitted model."""
        import xgboost

        cls, booster = type(model), _booster_of(model)
        if booster is model:
            require_exact_type(model, xgboost.Booster)
        metadata = _metadata_of({} if booster is model else vars(model), cls)
        if booster is None:
            return WrittenModel(f"{cls.__qualname__}, not fitted", None, state=metadata)
        model.save_model(directory / MODEL_FILE)
        (directory / CONFIG_FILE).write_text(booster.save_config(), encoding="utf-8")
        name = f"{cls.__module__}.{cls.__qualname__}"
        flavor = {"code": None, "data": MODEL_FILE, "model_class": name, "model_format": "ubj"}
        shape = f"{cls.__qualname__} of {booster.num_features()} features, {booster.num_boosted_rounds()} rounds"
        made_with = {"xgb_version": xgboost.__version__}
        return WrittenModel(shape, flavor, {"data": MODEL_FILE}, metadata, made_with=made_with)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the booster, and the wrapper around it; raises `ArtifactRefused` for a class that is neither."""
        import xgboost

        from airflow_zen.materializers.sklearn.trust import load_function

        metadata = self.read_state(directory)
        cls = resolve_class(metadata["class"], wanted)
        if not issubclass(cls, xgboost.Booster | xgboost.XGBModel):
            raise ArtifactRefused(f"{metadata['class']} is no XGBoost model here, and the artifact says it is one.")
        booster = None
        if (directory / MODEL_FILE).exists():
            booster = xgboost.Booster(model_file=directory / MODEL_FILE)
            booster.load_config((directory / CONFIG_FILE).read_text(encoding="utf-8"))
        if issubclass(cls, xgboost.Booster):
            return booster
        model: Any = cls.__new__(cls)
        vars(model).update(metadata["state"])
        vars(model).update({name: load_function(held, wanted) for name, held in metadata.get("functions", {}).items()})
        if booster is not None:
            # The wrapper's save_model leaves it in the file, where mlflow needs it; the booster itself has none.
            booster.set_attr(scikit_learn=None)
            model._Booster = booster  # noqa: SLF001 - where every XGBModel keeps what fit() gave it
        return model

    def feature_weights(self, model: Any) -> tuple[str, list[tuple[str, float]]]:
        """Return the mean gain of each feature; none for linear boosters, which have no gain."""
        booster = _booster_of(model)
        try:
            gains = booster.get_score(importance_type="gain") if booster else {}
        except ValueError:  # XGBoostError is one too
            return "", []
        weights = [(str(name), float(gain)) for name, gain in gains.items() if not isinstance(gain, list)]
        return "Mean gain of features", weights


def _metadata_of(attributes: Mapping[str, Any], cls: type) -> dict[str, Any]:
    """Return class and attributes of a model, and its functions by their names."""
    from airflow_zen.materializers.sklearn.trust import function_name

    functions = {name: attributes[name] for name in _FUNCTIONS if isinstance(attributes.get(name), FunctionType)}
    state = {name: item for name, item in attributes.items() if name not in ("_Booster", *functions)}
    named = {"functions": {name: function_name(function) for name, function in functions.items()}} if functions else {}
    return {"class": class_reference(cls), "state": state, **named}


def _booster_of(model: Any) -> Any:
    """Return the booster of a wrapper, or the booster itself; None before a wrapper is fitted."""
    return vars(model).get("_Booster") if hasattr(model, "get_params") else model
