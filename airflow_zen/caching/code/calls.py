"""Calls whose result the source does not determine: dynamic imports, the task run's context, clocks, generators."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from airflow_zen.caching.code.distributions import is_importable
from airflow_zen.caching.code.names import ResolvedName, Scope
from airflow_zen.caching.code.summary import Import, Reference
from airflow_zen.errors import FingerprintError

_MODULE_LOADERS = {"builtins.__import__", "importlib.import_module", "importlib.__import__"}
_OBJECT_LOADERS = {
    "airflow.sdk.module_loading.import_string", "airflow.utils.module_loading.import_string", "django.utils.module_loading.import_string", "hydra.utils.get_class",
    "hydra.utils.get_method", "hydra.utils.get_object", "hydra.utils.get_static_method", "kedro.utils.load_obj",
    "pkgutil.resolve_name", "pydoc.locate", "werkzeug.utils.import_string",
}  # fmt: skip
_MODULES = "sys.modules"
_REFUSED = {
    "builtins.compile", "builtins.eval", "builtins.exec", "builtins.globals", "gc.get_objects", "gc.get_referrers",
    "hydra.utils.call", "hydra.utils.instantiate", "importlib.machinery.ExtensionFileLoader",
    "importlib.machinery.SourceFileLoader", "importlib.machinery.SourcelessFileLoader", "importlib.metadata.entry_points",
    "importlib.util.module_from_spec", "importlib.util.spec_from_file_location", "importlib.util.spec_from_loader",
    "importlib_metadata.entry_points", "inspect.currentframe", "inspect.getmodule", "inspect.stack", "inspect.trace",
    "lightning.pytorch.cli.instantiate_class", "pkg_resources.iter_entry_points", "pkg_resources.load_entry_point",
    "runpy.run_module", "runpy.run_path", "sys._current_frames", "sys._getframe",
}  # fmt: skip
# Refused when they are called: an annotation or isinstance() may name them.
_REFUSED_CALLS = {"types.CodeType", "types.FunctionType", "types.LambdaType", "types.ModuleType"}
_ALL = _MODULE_LOADERS | _OBJECT_LOADERS | _REFUSED | {_MODULES}
_DEFINED_IN = {path.rpartition(".")[0] for path in _ALL} | {
    "_frozen_importlib", "_frozen_importlib_external", "importlib._bootstrap", "importlib._bootstrap_external",
}  # fmt: skip

# Compiled when code names Airflow.
_TASK_RUN = (
    r"airflow\..*(\bget_current_context|\bget_parsing_context|\bXCom(Model)?\.\w+|xcom_(push|pull)|SUPERVISOR_COMMS)\b.*"
    r"|airflow\.sdk\.execution_time\.(context|task_runner)\..*"
)
_COMPUTED_NAME = r"""\b(?:query|eval)\([^)]*?\b[rR]?[fF]["'][^\n]*@\{"""
_CLOCKS = {
    *(f"time.{name}" for name in ("asctime", "ctime", "gmtime", "localtime", "strftime", "time", "time_ns")),
    "datetime.date.today", "datetime.datetime.now", "datetime.datetime.today", "datetime.datetime.utcnow",
    "pandas.Timestamp.now", "pandas.Timestamp.today", "pandas.Timestamp.utcnow", "pendulum.now", "pendulum.today",
    "pendulum.tomorrow", "pendulum.yesterday",
}  # fmt: skip
_UNIQUE = {"os.getrandom", "os.urandom", "tempfile.mkdtemp", "uuid.uuid1", "uuid.uuid4"}
_UNIQUE_IN = ("random.SystemRandom", "secrets.")
# Generators that draw from one hidden state: the call that seeds it, and the functions that do not draw.
_GLOBAL_GENERATORS = {
    "numpy.random": ("numpy.random.seed", {"default_rng", "get_state", "seed", "set_state"}),
    "random": ("random.seed", {"seed", "setstate"}),
    "torch": ("torch.manual_seed", set()),
}
_TORCH_DRAWS = {"bernoulli", "multinomial", "normal", "rand", "randint", "randn", "randperm"}
_SEEDABLE = {
    "random.Random", "numpy.random.MT19937", "numpy.random.PCG64", "numpy.random.PCG64DXSM", "numpy.random.Philox",
    "numpy.random.RandomState", "numpy.random.SFC64", "numpy.random.SeedSequence", "numpy.random.default_rng",
}  # fmt: skip
_DOCSTRING_READERS = ("__doc__", "getdoc", "json_schema", "tools=", "tools =", "functions=", "response_format=")


def check_lookup(path: str) -> None:
    """Raise `FingerprintError` if a function that finds code by name is passed on, or gets a computed name."""
    if path in _ALL or path.startswith(f"{_MODULES}."):
        raise FingerprintError(
            f"The step's code uses {path.removeprefix('builtins.')}, which runs code that cannot be seen. "
            "Import what it needs, or name it by a literal or in a dictionary, or set cache=False."
        )


def is_lookup(value: Any) -> bool:
    """Whether a value is a function that finds code by name."""
    return _path_of(value) in _ALL


def looked_up(reference: Reference, resolved: ResolvedName, scope: Scope) -> Iterable[ResolvedName]:
    """Return the target of a reference: the module or object that its literal arguments name, or the resolved value.

    Raises `FingerprintError` for a computed name.
    """
    path = resolved.path or _path_of(resolved.value)
    if not path or not (path in _ALL or path in _REFUSED_CALLS or path.startswith(_MODULES)):
        return (resolved,)
    names = [text for text in reference.strings if "=" not in text]
    first = names[0] if names else _keyword(reference, "name")
    if first and path in _MODULE_LOADERS:
        return _modules(path, first, names[1:] or [_keyword(reference, "package")], scope)
    if first and path in _OBJECT_LOADERS:
        return (_object(first),)
    if first and path in (_MODULES, f"{_MODULES}.get"):
        own = str(scope.globals.get("__name__", ""))
        return Scope({}).resolve(Reference(("_",), imports=(Import(own if first == "__name__" else first),)))
    check_lookup(path)
    if reference.is_called and path in _REFUSED_CALLS:
        raise FingerprintError(f"The step's code makes code by {path}. Write it as a function, or set cache=False.")
    return (resolved,)


def _path_of(value: Any) -> str:
    """Return the public name of a function that finds code, whatever name the code uses for it."""
    if value is sys.modules:
        return _MODULES
    module = getattr(value, "__module__", None) if callable(value) else None
    if not isinstance(module, str) or module not in _DEFINED_IN:
        return ""
    name = getattr(value, "__qualname__", "")
    return next((path for path in _ALL if path.endswith(f".{name}") and _value_at(path) is value), f"{module}.{name}")


def _value_at(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return vars(sys.modules[module]).get(name) if module in sys.modules else None


def _keyword(reference: Reference, name: str) -> str:
    given = (text.partition("=") for text in reference.strings if "=" in text)
    return next((value for key, _, value in given if key == name), "")


def _modules(path: str, name: str, package: list[str], scope: Scope) -> Iterator[ResolvedName]:
    if name.startswith("."):
        own = {"__package__": scope.globals.get("__package__"), "__name__": scope.globals.get("__name__")}
        base = own.get(package[0], package[0])
        if not base:
            check_lookup(path)
        name = importlib.util.resolve_name(name, str(base))
    elif name == "__name__":
        name = str(scope.globals.get("__name__", ""))
    tops = [name.partition(".")[0]] if path != "importlib.import_module" and "." in name else []
    for module in (*tops, name):
        yield from Scope({}).resolve(Reference(("_",), imports=(Import(module),)))


def _object(name: str) -> ResolvedName:
    """Return the object of `module:attribute` or `module.attribute`."""
    module, colon, rest = name.partition(":")
    attributes = rest.split(".") if rest else []
    while not colon and not is_importable(module) and "." in module:
        module, _, last = module.rpartition(".")
        attributes.insert(0, last)
    return next(iter(Scope({}).resolve(Reference(("_", *attributes), imports=(Import(module),)))))


def is_context_getter(path: str) -> bool:
    """Whether a name is that of the function that returns the task run's context."""
    return path.startswith("airflow.") and path.endswith(".get_current_context")


def check_path(path: str) -> None:
    """Raise `FingerprintError` for a name that reads the task run's context, or exchanges values with other tasks."""
    if path.startswith("airflow.") and re.fullmatch(_TASK_RUN, path):
        raise FingerprintError(
            f"The step's code uses {path}, whose values are not in the key. Take them as parameters of the step's function: "
            "Airflow fills in those named ds, params, logical_date and so on. Return values instead of pushing them to "
            "XCom. Or set cache=False."
        )


def check_text(text: str) -> None:
    """Raise `FingerprintError` for code that reads the task run's identity, or computes a name inside a query."""
    if "@{" in text and re.search(_COMPUTED_NAME, text):
        raise FingerprintError(
            "The step's code computes the name of a variable in a query of pandas. Write the name, as in query('a > @limit'), or "
            "the value, as in query(f'a > {limit}'), or set cache=False."
        )
    if "AIRFLOW_CTX_" in text:
        raise FingerprintError(
            "The step's code reads AIRFLOW_CTX_… from the environment, which differs in each task run. Take the value as a "
            "parameter of the step's function, such as run_id=None, which Airflow fills in. Or set cache=False."
        )


@lru_cache(maxsize=4096)
def reads_docstrings(text: str) -> bool:
    """Whether code reads docstrings, itself or by passing functions as tools to a language model."""
    # Four times as fast as one regular expression.
    return any(mark in text for mark in _DOCSTRING_READERS)


def nondeterminism_warnings(calls: Iterable[tuple[str, bool]]) -> tuple[str, ...]:
    """Return a warning for each name that reads the clock or an unseeded generator.

    `calls` holds dotted names, each with whether it is called with an argument.
    """
    calls = set(calls)
    seeded = {name for name, has_argument in calls if has_argument}
    faults = {(name, _nondeterminism(name, has_argument, seeded)) for name, has_argument in calls}
    return tuple(
        f"The code calls {name}, which {fault}: a cached result repeats the first one. Consider cache=False."
        for name, fault in sorted(faults)
        if fault
    )


def _nondeterminism(name: str, has_argument: bool, seeded: set[str]) -> str:
    if name in _CLOCKS:
        return "reads the clock"
    if name in _UNIQUE or name.startswith(_UNIQUE_IN):
        return "gives another value every time"
    if name in _SEEDABLE and not has_argument:
        return "is not given a seed"
    module, _, function = name.rpartition(".")
    seed, others = _GLOBAL_GENERATORS.get(module, ("", set()))
    draws = function not in others and function[:1].islower()
    if module == "torch":
        draws = function.removesuffix("_like") in _TORCH_DRAWS
    return f"draws from a generator that {seed} has not seeded" if seed and draws and seed not in seeded else ""
