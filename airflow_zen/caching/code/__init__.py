"""The fingerprint of a function and of all the project code it reaches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.caching.code.calls import nondeterminism_warnings
from airflow_zen.caching.code.walker import DependencyWalker
from airflow_zen.errors import FingerprintError
from airflow_zen.fingerprint import FingerprintFallback, fingerprint

if TYPE_CHECKING:
    from airflow_zen.caching.code.task_context import ContextPath


class CodeFingerprint(msgspec.Struct, frozen=True):
    """The ingredients of a cache key that come from code.

    `ingredients` maps labels (`function features.clean`, `distribution scikit-learn`) to fingerprints or versions,
    `sources` the labels of functions, classes and modules to their source text, for a diff. `warnings` are the reasons
    why the same key may still give another result. `context` is what the code reads of the task run's context.
    """

    ingredients: Mapping[str, str]
    sources: Mapping[str, str]
    warnings: tuple[str, ...]
    context: tuple[ContextPath, ...] = ()


# Values of their classes reach no code.
_PLAIN_MODULES = ("datetime", "decimal", "pathlib", "uuid")
# What was reached, by the ids of the function and of what else was reached; these are kept, so that no id is used again.
KnownCode = dict[tuple[int, ...], tuple[CodeFingerprint, Any]]


def fingerprint_code(
    function: Callable[..., Any],
    fallback: FingerprintFallback | None = None,
    arguments: Mapping[str, object] | None = None,
    reached: Iterable[object] = (),
    known: KnownCode | None = None,
) -> CodeFingerprint:
    """Fingerprint a function and all it reaches: project code by source, constants by value, libraries by version.

    `fallback` fingerprints values of unknown types. `arguments` are passed to the function: the ingredient `parameter
    NAME` is their value, and their code is reached, as is that of `reached`. `known` caches the reached code for
    further calls with other arguments, between which no constant may change. Raises `FingerprintError` if something
    reached cannot be fingerprinted reliably.
    """
    reached = tuple(reached)
    plain = _plain_parameters(arguments or {}) if known is not None else None
    if known is None or plain is None:
        return _walk(function, fallback, arguments or {}, reached)
    key = tuple(map(id, (function, *reached)))
    if key not in known:
        known[key] = _walk(function, fallback, {}, reached), (function, reached)
    code = known[key][0]
    return msgspec.structs.replace(code, ingredients=dict(sorted({**code.ingredients, **plain}.items())))


def _plain_parameters(arguments: Mapping[str, object]) -> dict[str, str] | None:
    """Return the ingredients of arguments that reach no code; None when one may reach some."""
    try:
        return {f"parameter {name}": fingerprint(value, _refuse, _check_class) for name, value in arguments.items()}
    except FingerprintError:
        return None


def _refuse(value: object) -> str:
    raise FingerprintError(f"A {type(value).__qualname__} may reach code.")


def _check_class(cls: type) -> None:
    if cls.__module__.partition(".")[0] not in _PLAIN_MODULES:
        raise FingerprintError(f"A {cls.__qualname__} may reach code.")


def _walk(
    function: Callable[..., Any],
    fallback: FingerprintFallback | None,
    arguments: Mapping[str, object],
    reached: tuple[object, ...],
) -> CodeFingerprint:
    walker = DependencyWalker(function, fallback)
    try:
        walker.label_value(function, f"{walker.root_module}.{getattr(function, '__name__', 'step')}")
        walker.visit_pending()
        for name, value in arguments.items():
            walker.add_value(f"parameter {name}", value, f"argument {name!r}")
        for value in reached:
            walker.fingerprint(value)
        walker.visit_pending()
        walker.add_module_states()
        walker.visit_pending()
        walker.ingredients |= {"docstrings": fingerprint(walker.docs)} if walker.reads_docs else {}
    except RecursionError as error:
        raise FingerprintError("The code reaches values nested too deeply. Set cache=False.") from error
    ingredients = {"python": f"{sys.version_info.major}.{sys.version_info.minor}", **walker.ingredients}
    warnings = nondeterminism_warnings(walker.calls)
    sources = dict(sorted(walker.sources.items()))
    return CodeFingerprint(dict(sorted(ingredients.items())), sources, warnings, tuple(sorted(walker.context)))
