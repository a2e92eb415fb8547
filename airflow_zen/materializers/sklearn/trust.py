"""The classes and functions that a stored estimator may name, checked when it is saved and when it is loaded."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import packages_distributions, requires
from types import FunctionType
from typing import Any

from airflow_zen.errors import ArtifactRefused, MaterializerNotFound, SaveRefused
from airflow_zen.materializers.catalog import ESTIMATOR_METHODS
from airflow_zen.materializers.user_defined import FRAMEWORK, is_project_module
from airflow_zen.type_names import definition_reference, module_name, resolve_definition

_TRUSTED_CLASSES = re.compile(
    r"""
    (?!.*\b(tests|conftest)\b)
    (
        sklearn\.(?!datasets\b|externals\b|utils\._testing\b|utils\._mocking\b)
        | numpy\.(random|dtypes)\.
        | numpy\.(?!DataSource|memmap)\w+$
        | scipy\.(sparse|interpolate|spatial|special)\.
        | scipy\._lib\.array_api_compat\.numpy\.
        | scipy\.stats\._kde\.gaussian_kde$
        | lightgbm\.(basic\.Booster$|sklearn\.LGBM\w+$)
        | xgboost\.(core\.Booster$|sklearn\.XGB\w+$)
        | torch\.(nn|optim|utils\.data)\.
        | (datetime|decimal|fractions|uuid)\.\w+$
        | collections\.(Counter|OrderedDict|defaultdict|deque)$
        | operator\.itemgetter$
        | types\.SimpleNamespace$
        | pandas\.(\w+\.)*(DataFrame|Series|Timestamp|Timedelta|\w+Dtype)$
        | builtins\.(bool|bytearray|bytes|complex|dict|float|frozenset|int|list|object|range|set|slice|str|tuple)$
    )
    """,
    re.VERBOSE,
)
_TRUSTED_FUNCTIONS = re.compile(
    r"""
    sklearn\.(cluster\._kmeans|covariance|feature_extraction|feature_selection|gaussian_process|metrics|preprocessing)\.
    | sklearn\.utils\.(extmath\.|validation\.check_array$)
    | scipy\._lib\.array_api_compat\.numpy\.
    | scipy\.(special|spatial\.distance)\.\w+$
    | scipy\.interpolate\._interpolate\.interp1d\._\w+$
    | numpy\.(?!DataSource|from|gen|load|memmap|save|test)\w+$
    | numpy\.linalg\.(\w+\.)?\w+$
    | math\.\w+$
    | _?operator\.(?!attrgetter|methodcaller|call)\w+$
    | builtins\.(abs|all|any|divmod|hash|len|max|min|pow|repr|round|sorted|sum)$
    | builtins\.(str|bytes|float|int)\.\w+$
    """,
    re.VERBOSE,
)
_LOSSES = "sklearn._loss._loss"
# They make an empty object of a class, which is checked as any other, or one that only computes.
_RECONSTRUCTORS = re.compile(
    r"numpy\.random\._pickle\.__(bit_generator|generator|randomstate)_ctor$"
    r"|(sklearn|numpy\.random)\..*(\.|\b)(newObj|__pyx_unpickle_\w+)$"
)


def class_name(cls: type) -> str:
    """Return the reference of a class; raise `SaveRefused` for a class that could not be loaded again."""
    if not is_trusted_class(cls):
        raise SaveRefused(
            f"{module_name(cls)}.{cls.__qualname__} is neither an estimator, nor part of scikit-learn, of a library "
            "that depends on it, or of your own code. Keep what it computed in arrays or built-in types."
        )
    module = _module_of(cls)
    return definition_reference(cls) if module == cls.__module__ else f"{module}:{cls.__qualname__}"


def function_name(function: Any) -> str:
    """Return the reference of a function; raise `SaveRefused` for a function that could not be loaded again."""
    name = f"{getattr(function, '__module__', None)}.{getattr(function, '__qualname__', '')}"
    if "<lambda>" in name:
        raise SaveRefused("it is a lambda, which has no name to find it by. Define it with def at the top of a module.")
    if not is_trusted_function(function):
        raise SaveRefused(
            f"the function {name} is not loaded from an artifact. Call it in a function of your own, defined with def at "
            f"the top of a module."
        )
    return definition_reference(function)


def load_class(name: str, wanted: Any = None) -> type:
    """Return the class of a reference; raise `ArtifactRefused` for one that is not trusted."""
    found = _resolve(name, wanted)
    if not (isinstance(found, type) and is_trusted_class(found)):
        raise ArtifactRefused(f"The estimator names the class {name}, which is not loaded from an artifact.")
    return found


def load_function(name: str, wanted: Any = None) -> Any:
    """Return the function of a reference; raise `ArtifactRefused` for one that is not trusted."""
    found = _resolve(name, wanted)
    if isinstance(found, type) or not is_trusted_function(found):
        raise ArtifactRefused(f"The estimator names the function {name}, which is not loaded from an artifact.")
    return found


def is_trusted_class(cls: type) -> bool:
    """Whether instances of a class may be stored: estimators, their parts from scikit-learn and SciPy, own classes."""
    module = _module_of(cls)
    if _TRUSTED_CLASSES.match(f"{module}.{cls.__qualname__}"):
        return True
    if module.partition(".")[0] in {*sys.stdlib_module_names, "numpy", "scipy", "sklearn"}:
        return False
    return is_estimator(cls) or is_trusted_module(module)


def _module_of(cls: type) -> str:
    """Return the module of a class; the losses of scikit-learn up to 1.7 name one that cannot be imported."""
    is_loss = cls.__module__ == "_loss" and getattr(sys.modules.get(_LOSSES), cls.__qualname__, None) is cls
    return _LOSSES if is_loss else cls.__module__


def is_trusted_function(function: Any) -> bool:
    """Whether a function may be stored by its name: it is the project's own, or only computes."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(name, str) or not callable(function):
        return False
    if module is None:  # a method of a built-in type, or one of a ufunc's own kind
        owner = getattr(function, "__objclass__", None)
        module = owner.__module__ if owner is not None else ""
    if _TRUSTED_FUNCTIONS.match(f"{module}.{name}") or is_reconstructor(function):
        return True
    return isinstance(inspect.unwrap(function), FunctionType) and is_trusted_module(str(module))


def is_reconstructor(function: Any) -> bool:
    """Whether a function makes an empty object for a state that is set afterwards."""
    return (
        _RECONSTRUCTORS.match(f"{getattr(function, '__module__', '')}.{getattr(function, '__name__', '')}") is not None
    )


@cache
def is_trusted_module(name: str) -> bool:
    """Whether a module is the project's own, or of a distribution that depends on scikit-learn."""
    top = name.partition(".")[0]
    if is_project_module(name):
        return True
    return top not in sys.stdlib_module_names and any(map(_depends_on_sklearn, packages_distributions().get(top, ())))


def is_estimator(cls: type) -> bool:
    """Whether a class follows the API of scikit-learn."""
    if any(base.__module__ == "sklearn.base" for base in cls.__mro__):
        return True
    return hasattr(cls, "fit") and any(hasattr(cls, name) for name in ESTIMATOR_METHODS)


def untrusted_names(names: Iterable[str]) -> list[str]:
    """Return the names that are not loaded, of those in a skops file that skops itself does not trust."""
    return sorted(name for name in names if not _is_trusted_name(name))


def _is_trusted_name(name: str) -> bool:
    """Whether a name, looked up in trusted libraries only, is a class defined there or a function that only computes."""
    if name == "functools.partial":  # the function in it is a name of its own
        return True
    if not (_TRUSTED_CLASSES.match(name) or _TRUSTED_FUNCTIONS.match(name)):
        return False
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        return False
    defined_here = module == "numpy" or getattr(found, "__module__", None) == module
    patterns = _TRUSTED_CLASSES if isinstance(found, type) else _TRUSTED_FUNCTIONS
    return defined_here and patterns.match(name) is not None


def _depends_on_sklearn(distribution: str) -> bool:
    needed = requires(distribution) or ()
    return any(re.match(r"scikit-learn\b", name) and "extra ==" not in name for name in needed)


def _resolve(name: str, wanted: Any) -> Any:
    """Return the object of a reference; a module of the standard library is not imported for an untrusted name."""
    module, _, qualname = name.partition(":")
    dotted = f"{module}.{qualname}"
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names | FRAMEWORK and not (
        _TRUSTED_CLASSES.match(dotted) or _TRUSTED_FUNCTIONS.match(dotted)
    ):
        raise ArtifactRefused(f"The estimator names {name}, which is not loaded from an artifact.")
    found = resolve_definition(name, wanted)
    if found is None:
        raise MaterializerNotFound(f"{name} is needed to load this artifact, and is not defined any more.")
    return found
