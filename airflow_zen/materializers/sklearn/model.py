"""Estimators to MLflow Model directories and back."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.sklearn.canonical import write_canonical
from airflow_zen.materializers.sklearn.mlmodel import MODEL_FILE, write_environment, write_mlmodel
from airflow_zen.materializers.sklearn.trust import untrusted

# skops asks every loaded module for the names of SciPy's ufuncs, and Airflow's deprecated ones answer with warnings.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import skops.io


def save_model(estimator: Any, directory: Path) -> Mapping[str, Any]:
    """Write the directory; raises `SaveRefused` for a model that could not be loaded again."""
    file = directory / MODEL_FILE
    _dump(estimator, file)
    found = skops.io.get_untrusted_types(file=file)
    strangers = untrusted(found)
    if strangers:
        raise SaveRefused(
            f"{type(estimator).__qualname__} contains {', '.join(strangers)}, which only a pickle could hold. Return "
            f"the fitted part alone (such as search.best_estimator_), use scikit-learn's own parts, or set "
            f"[zen] allow_pickle = True."
        )
    _try_loading(estimator, file, found)
    write_mlmodel(directory, found, predicts=hasattr(estimator, "predict"))
    write_environment(directory)
    return {"shape": _shape(estimator), "estimator": type(estimator).__qualname__}


def load_model(directory: Path) -> Any:
    """Read the estimator; what may be in it is decided here, not by what the directory says it trusts."""
    file = directory / MODEL_FILE
    found = skops.io.get_untrusted_types(file=file)
    strangers = untrusted(found)
    if strangers:
        raise ArtifactRefused(
            f"{MODEL_FILE} contains {', '.join(strangers)}, which are not loaded. Save the model anew with parts of "
            f"scikit-learn, NumPy and SciPy alone."
        )
    return skops.io.load(file, trusted=found)


def _dump(estimator: Any, file: Path) -> None:
    try:
        write_canonical(skops.io.dumps(estimator), file)
    except Exception as error:
        raise SaveRefused(_reason(estimator, error)) from error


def _try_loading(estimator: Any, file: Path, trusted: list[str]) -> None:
    """Load once, as mlflow does too: skops writes some values that it cannot read."""
    try:
        skops.io.load(file, trusted=trusted)
    except Exception as error:
        raise SaveRefused(_reason(estimator, error)) from error


def _reason(estimator: Any, error: Exception) -> str:
    return f"skops does not keep {type(estimator).__qualname__}: {error}. Set [zen] allow_pickle = True to pickle it."


def _shape(estimator: Any) -> str:
    features = getattr(estimator, "n_features_in_", None)
    name = type(estimator).__qualname__
    return name if features is None else f"{name} of {features} {'feature' if features == 1 else 'features'}"
