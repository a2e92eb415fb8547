"""Names of modules, classes and declared types that are the same on every machine, and the classes behind them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from pathlib import PurePath
from types import GenericAlias, ModuleType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from airflow_zen.errors import ArtifactRefused, MaterializerNotFound, SaveRefused

# Airflow names the module of a DAG file by a hash of its path.
_DAG_MODULE = re.compile(r"^unusual_prefix_[0-9a-f]{40}_")
# Only libraries whose public modules hold their names once imported: the name in a lazy one would depend on what ran before.
_PUBLIC_LIBRARIES = {
    "PIL", "catboost", "geopandas", "keras", "lightgbm", "numpy", "onnx", "pandas", "polars", "pyarrow", "scipy", "sklearn",
    "torch", "xarray", "xgboost",
}  # fmt: skip


class StandIn(type):
    """The metaclass of stand-ins for classes whose modules are not imported: `StandIn("pandas.DataFrame")` has that name.

    A stand-in can be used in annotations like the class, and in place of the module: its attributes are stand-ins too.
    """

    def __new__(mcs, path: str) -> StandIn:
        """Return the stand-in of a dotted path."""
        module, _, name = path.rpartition(".")
        return super().__new__(mcs, name, (), {"__module__": module or name, "__qualname__": name})

    def __init__(cls, path: str) -> None:
        super().__init__(cls.__name__, (), {})
        cls._path = path

    def __getattr__(cls, name: str) -> StandIn:
        if name.startswith("_"):
            raise AttributeError(name)
        return StandIn(f"{cls._path}.{name}")

    def __getitem__(cls, arguments: Any) -> GenericAlias:
        return GenericAlias(cls, arguments)


def stable_module_name(module_name: str, file: str | None = None) -> str:
    """Return a module's name for fingerprints: Airflow's name of a DAG file, or `__main__`, becomes the file's stem."""
    if module_name in ("__main__", "__mp_main__") and file:
        return re.sub(r"[.-]", "_", PurePath(file).stem)
    return _DAG_MODULE.sub("", module_name)


def stable_class_name(cls: type) -> str:
    """Return a class's name for fingerprints, by module and qualified name."""
    module = cls.__module__
    file = getattr(sys.modules.get(module), "__file__", None) if module.endswith("main__") else None
    return f"{stable_module_name(module, file)}.{cls.__qualname__}"


def module_name(cls: type) -> str:
    """Return the module of a class as an import would name it, without what depends on the machine.

    Airflow loads a DAG file as `unusual_prefix_<hash of its path>_<stem>`, and a script is `__main__`.
    """
    return _public_module_name(cls.__module__)


def type_name(cls: type) -> str:
    """Return the dotted name of a type as its library publishes it, such as `pandas.DataFrame`.

    Libraries move their private modules between releases (`pandas.core.frame.DataFrame` became
    `pandas.DataFrame` in pandas 3); the shortest public path to the same class stays.
    """
    module = module_name(cls)
    if module.partition(".")[0] in _PUBLIC_LIBRARIES:
        parts = module.split(".")
        for candidate in (".".join(parts[:length]) for length in range(1, len(parts))):
            if candidate in sys.modules and vars(sys.modules[candidate]).get(cls.__qualname__) is cls:
                return f"{candidate}.{cls.__qualname__}"
    return f"{module}.{cls.__qualname__}"


def base_names(cls: type) -> list[str]:
    """Return the names of a type and its bases, the nearest first."""
    return list(map(type_name, cls.__mro__))


def display_name(declared: Any) -> str:
    """Return a class, or a declared type, as error messages show it."""
    return str(getattr(declared, "__qualname__", declared))


def canonical_type_text(declared: Any) -> str:
    """Return a declared type as text for the cache key."""
    if declared is None:
        return "any"
    arguments, origin = get_args(declared), get_origin(declared)
    if origin is Annotated:
        return canonical_type_text(arguments[0])
    if isinstance(declared, type) and origin is None:
        return type_name(declared)
    inner = list(map(canonical_type_text, arguments))
    if is_union(declared):
        return f"union[{', '.join(sorted(inner))}]"
    name = getattr(origin, "__qualname__", None)
    return f"{name}[{', '.join(inner)}]" if name else str(declared)


def python_scalar(value: Any) -> Any:
    """Return a NumPy scalar as the Python value that it holds; anything else as it is."""
    is_scalar = type(value).__module__ == "numpy" and getattr(value, "shape", None) == () and hasattr(value, "item")
    return value.item() if is_scalar else value


def is_union(declared: Any) -> bool:
    """Whether a declared type is `X | Y`, however that is written."""
    return get_origin(declared) in (Union, UnionType)


def walk_types(declared: Any) -> Iterator[Any]:
    """Yield a declared type and every type within: `list[Point]`, then `Point`."""
    yield declared
    for argument in get_args(declared):
        yield from walk_types(argument)


def class_reference(cls: type) -> str:
    """Return a class as `module:qualname`, from which `resolve_class` finds it again.

    Raises `SaveRefused` for a class that no import can find.
    """
    name = f"{module_name(cls)}.{cls.__qualname__}"
    if "[" in cls.__qualname__:
        raise SaveRefused(
            f"{name} is made when it is asked for, and cannot be found again by its name. Give it "
            f"one: class Named({cls.__qualname__}): ..."
        )
    return definition_reference(cls)


def definition_reference(definition: Any) -> str:
    """Return a class or function as `module:qualname`, from which `resolve_definition` finds it again.

    It is among the `named_definitions`. Raises `SaveRefused` for one that no import can find.
    """
    record_definition(definition)
    module, name = _module_of(definition), definition_name(definition)
    if _attribute(sys.modules.get(module), definition.__qualname__) is None:
        what = "class" if isinstance(definition, type) else "function"
        raise SaveRefused(
            f"{name.replace(':', '.')} cannot be found again by its name. Define the {what} at the top level of a module."
        )
    return name


def definition_name(definition: Any) -> str:
    """Return a class or function as `module:qualname`, whether or not it is found by that; a module as `module:`."""
    if isinstance(definition, ModuleType):
        return f"{_public_module_name(definition.__name__)}:"
    return f"{_public_module_name(_module_of(definition))}:{definition.__qualname__}"


def _module_of(definition: Any) -> str:
    # A method of a built-in type, such as str.lower, has no module of its own.
    return str(getattr(definition, "__module__", None) or definition.__objclass__.__module__)


_named: ContextVar[set[Any] | None] = ContextVar("_named", default=None)


def record_definition(definition: Any) -> None:
    """Add a class, function or module to the `named_definitions` that are collected."""
    if (found := _named.get()) is not None:
        found.add(definition)


@contextmanager
def named_definitions() -> Iterator[set[Any]]:
    """Collect what is named inside the block: the classes and functions of which a value is built, while it is saved."""
    found: set[Any] = set()
    token = _named.set(found)
    try:
        yield found
    finally:
        _named.reset(token)
        for definition in found:
            record_definition(definition)


def resolve_class(name: str, wanted: Any = None) -> type:
    """Return the class behind `module:qualname`, found as `resolve_definition` does."""
    found = resolve_definition(name, wanted)
    if not isinstance(found, type):
        raise MaterializerNotFound(f"{name} is needed to load this artifact, and is no class here.")
    return found


def resolve_definition(name: str, wanted: Any = None) -> Any:
    """Return the class or function behind `module:qualname`, or the module behind `module:`.

    It is looked up in the type that the consumer declared as `wanted` and its module, then in loaded modules of that name
    (Airflow loads a DAG file under a name of its own), then by an import. Raises `MaterializerNotFound` if it is not found,
    `ArtifactRefused` if two DAG files of that name define it.
    """
    module, _, qualname = name.partition(":")
    if not qualname:
        return _import_module(module, name)
    for cls in walk_types(wanted):
        if isinstance(cls, type) and module_name(cls) == module:
            found = cls if cls.__qualname__ == qualname else _attribute(sys.modules.get(cls.__module__), qualname)
            if found is not None:
                return found
    loaded = {id(found): found for found in _loaded_definitions(module, qualname)}
    if len(loaded) > 1:
        raise ArtifactRefused(
            f"{name} is defined by several loaded DAG files named {module!r}. Annotate the parameter with the one you "
            f"mean, or rename a file."
        )
    return next(iter(loaded.values()), None) or _import_definition(module, qualname)


def _loaded_definitions(module: str, qualname: str) -> Iterator[Any]:
    """Yield the definition in each loaded module of that name; only one if a module has exactly that name."""
    if (exact := _attribute(sys.modules.get(module), qualname)) is not None:
        yield exact
        return
    names = [loaded for loaded in sorted(sys.modules) if loaded != module and stable_module_name(loaded) == module]
    names += ["__main__"] if _main_module_name() == module else []
    found = (_attribute(sys.modules[name], qualname) for name in names)
    yield from (definition for definition in found if definition is not None)


def _import_definition(module: str, qualname: str) -> Any:
    name = f"{module}:{qualname}"
    found = _attribute(_import_module(module, name), qualname)
    if found is None:
        raise MaterializerNotFound(f"{name} is needed to load this artifact, and {module!r} no longer defines it.")
    return found


def _import_module(module: str, needed: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        raise MaterializerNotFound(
            f"{needed} is needed to load this artifact, and {module!r} cannot be imported here: {error}. Put the folder "
            "of its file on the path with sys.path.insert(0, folder), or declare the class on the parameter."
        ) from error


def _attribute(module: Any, qualname: str) -> Any:
    found = module
    for part in qualname.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    return found if getattr(found, "__qualname__", None) == qualname else None


def _public_module_name(module: str) -> str:
    return _main_module_name() if module in ("__main__", "__mp_main__") else stable_module_name(module)


def _main_module_name() -> str:
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name).removesuffix(".__main__")
    return stable_module_name("__main__", getattr(main, "__file__", None))
