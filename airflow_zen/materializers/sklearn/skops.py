"""Estimators of `sklearn.mlflow@1` and `lightgbm.mlflow@1`, which skops wrote and reads."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from airflow_zen.errors import ArtifactRefused

_TRUSTED_MODULES = re.compile(
    r"""
    (?!.*\b(tests|conftest)\b)
    (
        sklearn\.(?!datasets\b|externals\b|utils\._testing\b|utils\._mocking\b)
        | numpy\.(random|dtypes)\.
        | scipy\.(sparse|interpolate|spatial|special)\.
        | scipy\._lib\.array_api_compat\.numpy\.
        | lightgbm\.(basic\.Booster$|sklearn\.LGBM\w+$)
        | xgboost\.(core\.Booster$|sklearn\.XGB\w+$)
    )
    """,
    re.VERBOSE,
)
_TRUSTED_FUNCTIONS = re.compile(
    r"""
    sklearn\.(cluster\._kmeans|covariance|feature_extraction|feature_selection|gaussian_process|metrics|preprocessing)\.
    | sklearn\.utils\.(extmath\.|validation\.check_array$)
    | scipy\._lib\.array_api_compat\.numpy\.
    """,
    re.VERBOSE,
)
# Gradient boosting keeps a partial; the function in it is a name of its own, and looked up like any other.
_TRUSTED_NAMES = frozenset({"functools.partial", "collections.OrderedDict"})
_TRUSTED_NUMPY = re.compile(r"numpy\.(?!DataSource|from|gen|load|memmap|save|test)\w+")


def read_skops(file: Path) -> Any:
    """Read a skops file.

    Raises `ArtifactRefused` for types that are not trusted here, whatever the artifact's own `MLmodel` trusts.
    """
    found = _skops_io().get_untrusted_types(file=file)
    if untrusted := untrusted_types(found):
        raise ArtifactRefused(
            f"{file.name} contains {', '.join(untrusted)}, which are not loaded. Save the model again with parts of "
            f"scikit-learn, NumPy and SciPy only."
        )
    return _skops_io().load(file, trusted=found)


def untrusted_types(names: Iterable[str]) -> list[str]:
    """Return those names, of the ones skops does not trust, that a model must not contain."""
    return sorted(name for name in names if not _is_trusted(name))


def _is_trusted(name: str) -> bool:
    """Whether a name, looked up in trusted libraries only, is a class defined there or a function that only computes."""
    if name in _TRUSTED_NAMES or _TRUSTED_NUMPY.fullmatch(name):
        return True
    if not _TRUSTED_MODULES.match(name):
        return False
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        return False
    defined_here = getattr(found, "__module__", None) == module
    return defined_here and (isinstance(found, type) or _TRUSTED_FUNCTIONS.match(name) is not None)


@cache
def _skops_io() -> Any:
    # skops asks every loaded module for the names of SciPy's ufuncs, and Airflow's deprecated names answer with warnings.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import skops.io
    return skops.io
