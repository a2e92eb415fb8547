"""How an MLflow Model says that scikit-learn reads it from a skops file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_zen.materializers.mlmodel import pyfunc_flavor, write_environment, write_mlmodel
from airflow_zen.materializers.versions import installed_version

MODEL_FILE = "model.skops"

_REQUIREMENTS = ("numpy", "pandas", "scikit-learn", "scipy", "skops")


def write_mlflow_files(directory: Path, trusted: Sequence[str], predicts: bool) -> None:
    """Write the files beside `model.skops`; `trusted` are the types that mlflow hands to skops when it loads it."""
    flavors: dict[str, Any] = {
        "sklearn": {
            "code": None,
            "pickled_model": MODEL_FILE,
            "serialization_format": "skops",
            "skops_trusted_types": list(trusted),
            "sklearn_version": installed_version("scikit-learn"),
        }
    }
    if predicts:
        flavors["python_function"] = pyfunc_flavor("mlflow.sklearn", model_path=MODEL_FILE, predict_fn="predict")
    write_mlmodel(directory, flavors)
    write_environment(directory, (*_REQUIREMENTS, *_booster_libraries(trusted)))


def _booster_libraries(trusted: Sequence[str]) -> list[str]:
    """Name the libraries whose models are parts of this one."""
    found = {name.partition(".")[0] for name in trusted}
    return [name for name in ("lightgbm", "xgboost", "xgboost-cpu") if name.partition("-")[0] in found]
