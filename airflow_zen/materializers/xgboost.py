"""XGBoost boosters and scikit-learn wrappers as MLflow Model directories."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.base import require_exact_type
from airflow_zen.materializers.mlflow_model import ModelMaterializer, WrittenModel
from airflow_zen.materializers.typed_json.encoding import canonical_json
from airflow_zen.type_names import class_reference, resolve_class

MODEL_FILE = "model.ubj"
CONFIG_FILE = "config.json"

_FUNCTIONS = ("objective", "eval_metric")
# UBJSON ends with the release that wrote it; readers only ask whether it is older than 1.6.
_RELEASE = re.compile(rb"version\[#L\0{7}\x03(?:i.|I..|l.{4}|L.{8}){3}\}\Z", re.DOTALL)
# Counts of trees, which a configuration has too.
_OF_THE_MODEL = frozenset({"gbtree_model_param"})
_MAX_RELEASE_SIZE = 64  # bytes
_ANY_RELEASE = b"version[#L\0\0\0\0\0\0\0\3i\2i\0i\0}"


class XgboostMaterializer(ModelMaterializer):
    """Save a model in the layout of `mlflow.xgboost.save_model`, and beside it what that leaves out.

    Kept exactly: the trees, the booster's configuration and attributes, the wrapper's parameters and results.
    An own objective or metric is kept by its name. Refused: lambdas, and callbacks.
    """

    types = ("xgboost.Booster", "xgboost.XGBModel")
    encoding = "xgboost.mlflow@3"
    reads = ("xgboost.mlflow@1", "xgboost.mlflow@2")
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
        _replace_release(directory / MODEL_FILE)
        (directory / CONFIG_FILE).write_text(canonical_json(_changed_config(booster)), encoding="utf-8")
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
            config = (directory / CONFIG_FILE).read_text(encoding="utf-8")
            if encoding == self.encoding:
                _change_config(booster, json.loads(config))
            else:
                booster.load_config(config)
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


def _replace_release(file: Path) -> None:
    with file.open("r+b") as model:
        start = model.seek(max(0, file.stat().st_size - _MAX_RELEASE_SIZE))
        end = model.read()
        model.seek(start)
        model.write(_RELEASE.sub(_ANY_RELEASE, end))
        model.truncate()


def _changed_config(booster: Any) -> dict[str, Any]:
    """Return what differs from the configuration that this release gives a booster with the same trees.

    A configuration names every parameter of a release, and no other release reads it.
    """
    import xgboost

    config = json.loads(booster.save_config())
    has_trees = config["learner"]["learner_train_param"]["booster"] != "gblinear"
    # The first round has the parameters of all.
    first = booster[:1] if has_trees and booster.num_boosted_rounds() > 1 else booster
    usual = xgboost.Booster(model_file=first.save_raw("ubj"))
    method = _tree_method(config)
    usual.set_param(method)
    return {"method": method, "changes": _differences(json.loads(usual.save_config()), config)}


def _change_config(booster: Any, stored: Mapping[str, Any]) -> None:
    booster.set_param(stored["method"])
    booster.load_config(json.dumps(_changed(json.loads(booster.save_config()), stored["changes"])))


def _tree_method(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters that decide which updaters a configuration has."""
    trees = config["learner"]["gradient_booster"]
    trees = trees.get("gbtree", trees)
    names = ("tree_method", "updater") if trees.get("specified_updater") else ("tree_method",)
    return {name: trees["gbtree_train_param"][name] for name in names if "gbtree_train_param" in trees}


def _differences(usual: Any, config: Any) -> Any:
    """Return the changes that make `config` of `usual`: a dict of what differs, in dicts; None is no change."""
    if not (isinstance(usual, dict) and isinstance(config, dict)):
        return None if usual == config else config
    found = {key: _differences(usual.get(key), item) for key, item in config.items() if key not in _OF_THE_MODEL}
    return {key: item for key, item in found.items() if item is not None} or None


def _changed(usual: Any, changes: Any) -> Any:
    if not (isinstance(usual, dict) and isinstance(changes, dict)):
        return usual if changes is None else changes
    return {**usual, **{key: _changed(usual.get(key), item) for key, item in changes.items()}}


def _booster_of(model: Any) -> Any:
    """Return the booster of a wrapper, or the booster itself; None before a wrapper is fitted."""
    return vars(model).get("_Booster") if hasattr(model, "get_params") else model
