"""Which types and functions a model may be made of.

skops calls what a file names: classes with arguments from the file, `__setstate__` with a state from it. So
a name is trusted only where nothing it does with them reads, writes or runs anything. (A distribution of
`scipy.stats` runs a template from its state; `numpy.memmap` opens files.) The boosters of LightGBM and XGBoost
parse their state as a model of theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module

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


def untrusted_types(names: Iterable[str]) -> list[str]:
    """Give the names that a model must not contain, of those that skops itself does not trust."""
    return sorted(name for name in names if not _is_trusted(name))


def _is_trusted(name: str) -> bool:
    """Look a name up, in these libraries alone: a class where it is defined, or a function that only computes."""
    if name in _TRUSTED_NAMES or _TRUSTED_NUMPY.fullmatch(name):
        return True
    module, _, attribute = name.rpartition(".")
    if not _TRUSTED_MODULES.match(name):
        return False
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        return False
    defined_here = getattr(found, "__module__", None) == module
    return defined_here and (isinstance(found, type) or _TRUSTED_FUNCTIONS.match(name) is not None)
