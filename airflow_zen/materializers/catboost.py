"""CatBoost models as MLflow Model directories."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.base import installed_version, require_exact_type
from airflow_zen.materializers.mlflow_model import ModelMaterializer, WrittenModel
from airflow_zen.type_names import type_name

MODEL_FILE = "model.cb"

_CLASS_NAMES = ("CatBoost", "CatBoostClassifier", "CatBoostRegressor", "CatBoostRanker")
# Where CatBoost's own `__getstate__` puts the trained model, in the format of its files.
_TRAINED_KEY = "__model"
_TRAINING_RUN = ("catboost_version_info", "model_guid", "train_finish_time")
_MODEL_GUID = "0-0-0-0"
# What CatBoost calls of an objective, a metric or a callback.
_OWN_METHODS = ("__call__", "calc_ders_range", "calc_ders_multi", "evaluate", "after_iteration")


class CatboostMaterializer(ModelMaterializer):
    """Save a model in the layout of `mlflow.catboost.save_model`, and its parameters beside it.

    CatBoost's file keeps the scores of training to 16 digits, so their last digit may differ. The random `model_guid` of a
    training, its time, and the release of CatBoost are not kept in the file: equal models are equal bytes. Refused:
    subclasses, and functions among the parameters (an own objective or metric).
    """

    types = ("catboost.CatBoost",)
    encoding = "catboost.mlflow@2"
    reads = ("catboost.mlflow@1",)
    libraries = ("catboost",)
    extra = "catboost"
    requirements = ("catboost", "numpy", "pandas", "scipy")

    def write(self, model: Any, directory: Path) -> WrittenModel:
        """Write `model.cb` of a trained model."""
        require_exact_type(model, *(f"catboost.{name}" for name in _CLASS_NAMES))
        name = type(model).__name__
        state = dict(model.__getstate__())
        trained = state.pop(_TRAINED_KEY, None)
        _check_parameters(state)
        metadata = {"class": name, "state": state}
        if trained is None:
            return WrittenModel(name, None, state=metadata)
        (directory / MODEL_FILE).write_bytes(_without_training_run(trained))
        flavor = {"code": None, "data": MODEL_FILE, "model_type": name, "save_format": "cbm"}
        shape = f"{name} of {len(model.feature_names_)} features, {model.tree_count_} trees"
        made_with = {"catboost_version": installed_version("catboost")}
        return WrittenModel(shape, flavor, {"data": MODEL_FILE}, metadata, made_with=made_with)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the model; raises `ArtifactRefused` for a class that is none of CatBoost's own."""
        import catboost

        metadata = self.read_state(directory)
        if metadata["class"] not in _CLASS_NAMES:
            raise ArtifactRefused(f"{self.encoding} keeps {', '.join(_CLASS_NAMES)}, not {metadata['class']!r}.")
        state = dict(metadata["state"])
        if (directory / MODEL_FILE).exists():
            state[_TRAINED_KEY] = (directory / MODEL_FILE).read_bytes()
        cls = getattr(catboost, metadata["class"])
        model = cls.__new__(cls)
        model.__setstate__(state)
        return model

    def feature_weights(self, model: Any) -> tuple[str, list[tuple[str, float]]]:
        """Return the importances that CatBoost computes without the data."""
        import catboost

        if not model.is_fitted():
            return "", []
        try:
            found = model.get_feature_importance()
        except catboost.CatBoostError:
            return "", []  # rankers and some losses need the data
        return "Change of predictions, in %", list(zip(map(str, model.feature_names_), map(float, found), strict=True))


def _check_parameters(state: Mapping[str, Any]) -> None:
    """Raise `SaveRefused` for a custom objective or metric, because it is code."""
    for name, held in state.items():
        if any(hasattr(held, method) for method in _OWN_METHODS):
            raise SaveRefused(
                f"The parameter {name!r} is a {type_name(type(held))}, and code is not stored. Use one that CatBoost has a "
                "name for. Or write the trained model without its parameters. Call model.save_model('model.cbm') and return "
                "pathlib.Path('model.cbm'), and read it with catboost.CatBoost().load_model(path)."
            )


def _without_training_run(trained: bytes) -> bytes:
    """Return a trained model without facts of its training run; the keys of its JSON are sorted."""
    import catboost

    copy = catboost.CatBoost()
    copy.load_model(blob=trained)
    metadata = copy.get_metadata()
    for name in list(metadata.keys()):
        if name in _TRAINING_RUN:
            del metadata[name]
        elif metadata[name].startswith("{"):
            metadata[name] = json.dumps(json.loads(metadata[name]), sort_keys=True, separators=(",", ":"))
    # CatBoost gives a model without one a new one.
    metadata["model_guid"] = _MODEL_GUID
    found: bytes = copy._serialize_model()  # noqa: SLF001 - what its own __getstate__ calls
    return found
