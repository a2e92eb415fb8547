"""The fingerprint of a function and of all the project code it reaches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import Any

import msgspec

from airflow_zen.caching.code.walk import DependencyWalker
from airflow_zen.errors import FingerprintError
from airflow_zen.fingerprint import FingerprintFallback, fingerprint


class CodeFingerprint(msgspec.Struct, frozen=True):
    """What the code contributes to a cache key.

    `ingredients` maps labels (`function features.clean`, `distribution scikit-learn`) to fingerprints or
    versions, `sources` the labels of functions, classes and modules to their normalised text, from which
    a difference can be shown. `warnings` say why the same key may still give another result.
    """

    ingredients: Mapping[str, str]
    sources: Mapping[str, str]
    warnings: tuple[str, ...]


def fingerprint_code(
    function: Callable[..., Any], fallback: FingerprintFallback | None = None, arguments: Iterable[object] = ()
) -> CodeFingerprint:
    """Fingerprint a function and all it reaches: project code by source, constants by value, libraries by version.

    `fallback` fingerprints values of unknown types. `arguments` are what the function will be called with:
    the code of their classes is reached too. Raises `FingerprintError` when something reached cannot be
    fingerprinted soundly.
    """
    walker = DependencyWalker(function, fallback)
    try:
        walker.visit_root()
        for value in arguments:
            fingerprint(value, walker.fingerprint_fallback, walker.visit_class_of_value)
        walker.visit_pending()
    except RecursionError as error:
        raise FingerprintError("The code reaches values nested too deeply. Set cache=False.") from error
    ingredients = {"python": f"{sys.version_info.major}.{sys.version_info.minor}", **walker.ingredients}
    return CodeFingerprint(dict(sorted(ingredients.items())), dict(sorted(walker.sources.items())), walker.warnings())


__all__ = ["CodeFingerprint", "FunctionType", "fingerprint_code"]
