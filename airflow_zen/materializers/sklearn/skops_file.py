"""An estimator in a skops file: what may be in one, written so that it can be read again."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.sklearn.canonical import write_reproducible_zip
from airflow_zen.materializers.sklearn.trust import untrusted_types

# skops asks every loaded module for the names of SciPy's ufuncs, and Airflow's deprecated ones answer with warnings.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import skops.io


def write_estimator(estimator: Any, file: Path) -> list[str]:
    """Write the file, and give the names in it that skops must be told to trust.

    Raises `SaveRefused` for an estimator that could not be loaded again.
    """
    _write_skops(estimator, file)
    found: list[str] = skops.io.get_untrusted_types(file=file)
    untrusted_names = untrusted_types(found)
    if untrusted_names:
        raise SaveRefused(
            f"{type(estimator).__qualname__} contains {', '.join(untrusted_names)}, which only a pickle could hold. Return "
            f"the fitted part alone (such as search.best_estimator_), use scikit-learn's own parts, or set "
            f"[zen] allow_pickle = True."
        )
    _check_loadable(estimator, file, found)
    return found


def read_estimator(file: Path) -> Any:
    """Read the estimator; what may be in it is decided here, not by what the directory says it trusts."""
    found = skops.io.get_untrusted_types(file=file)
    untrusted_names = untrusted_types(found)
    if untrusted_names:
        raise ArtifactRefused(
            f"{file.name} contains {', '.join(untrusted_names)}, which are not loaded. Save the model anew with parts of "
            f"scikit-learn, NumPy and SciPy alone."
        )
    return skops.io.load(file, trusted=found)


def estimator_shape(estimator: Any) -> str:
    """Say for people what an estimator is, and of how many features."""
    features = getattr(estimator, "n_features_in_", None)
    name = type(estimator).__qualname__
    return name if features is None else f"{name} of {features} {'feature' if features == 1 else 'features'}"


def _write_skops(estimator: Any, file: Path) -> None:
    try:
        write_reproducible_zip(skops.io.dumps(estimator), file)
    except Exception as error:
        raise SaveRefused(_unsupported_message(estimator, error)) from error


def _check_loadable(estimator: Any, file: Path, trusted: list[str]) -> None:
    """Load once, as mlflow does too: skops writes some values that it cannot read."""
    try:
        skops.io.load(file, trusted=trusted)
    except Exception as error:
        raise SaveRefused(_unsupported_message(estimator, error)) from error


def _unsupported_message(estimator: Any, error: Exception) -> str:
    return f"skops does not keep {type(estimator).__qualname__}: {error}. Set [zen] allow_pickle = True to pickle it."
