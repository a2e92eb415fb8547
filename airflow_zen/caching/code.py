"""The fingerprint of a function and of all the project code it reaches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import Any

import msgspec

from airflow_zen.caching.code_walk import Walk
from airflow_zen.errors import FingerprintError
from airflow_zen.fingerprint import Other, fingerprint


class Code(msgspec.Struct, frozen=True):
    """What the code contributes to a cache key.

    `ingredients` maps labels (`function features.clean`, `distribution scikit-learn`) to fingerprints or
    versions, `sources` the labels of functions, classes and modules to their normalised text, from which
    a difference can be shown. `warnings` say why the same key may still give another result.
    """

    ingredients: Mapping[str, str]
    sources: Mapping[str, str]
    warnings: tuple[str, ...]


def reach(function: Callable[..., Any], other: Other | None = None, arguments: Iterable[object] = ()) -> Code:
    """Fingerprint a function and all it reaches: project code by source, constants by value, libraries by version.

    `other` fingerprints values of unknown types. `arguments` are what the function will be called with:
    the code of their classes is reached too. Raises `FingerprintError` when something reached cannot be
    fingerprinted soundly.
    """
    walk = Walk(function, other)
    try:
        walk.run()
        for value in arguments:
            fingerprint(value, walk.other, walk.meet)
        walk.finish()
    except RecursionError as error:
        raise FingerprintError("The code reaches values nested too deeply. Set cache=False.") from error
    ingredients = {"python": f"{sys.version_info.major}.{sys.version_info.minor}", **walk.ingredients}
    return Code(dict(sorted(ingredients.items())), dict(sorted(walk.sources.items())), walk.warnings())


__all__ = ["Code", "FunctionType", "reach"]
