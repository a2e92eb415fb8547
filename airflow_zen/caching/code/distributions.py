"""What a name in code refers to, and whose it is: the project's, the standard library's or a distribution's."""

from __future__ import annotations

import builtins
import functools
import importlib
import logging
import os
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from airflow_zen.type_names import stable_module_name

if TYPE_CHECKING:
    from airflow_zen.caching.code.summary import Import, Reference

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()
CodeOrigin = Literal["project", "third-party", "stdlib"]

# Not project code, even when they run from a checkout.
FRAMEWORK = ("airflow", "airflow_zen")

_LOCK_MODULES = ("_thread", "threading", "multiprocessing.synchronize")
_LOCKS = ("lock", "Lock", "RLock", "_RLock", "Semaphore", "BoundedSemaphore", "Condition")
_SITE_PACKAGES = re.compile(r"[/\\](site|dist)-packages([/\\]|$)")
_STDLIB_FOLDERS = tuple({sysconfig.get_path("stdlib") + os.sep, sysconfig.get_path("platstdlib") + os.sep})


def origin_of_module(module_name: str, file: str | None = None) -> CodeOrigin:
    """Return whose code a module is, by the path of its file."""
    top = module_name.partition(".")[0]
    if top in FRAMEWORK:
        return "third-party"
    file = file or module_file(module_name)
    if file is None or file.startswith("<frozen"):
        return "stdlib" if top in sys.stdlib_module_names or top == "builtins" else "project"
    if _SITE_PACKAGES.search(file):
        return "third-party"
    if file.startswith(_STDLIB_FOLDERS):
        return "stdlib"
    # `pip install --target` puts modules into a folder of another name.
    root = _import_root(module_name, file)
    is_installed = root and Path(root).is_dir() and _distribution_of(module_name, file, root)
    return "third-party" if is_installed else "project"


def module_file(module_name: str) -> str | None:
    """Return the file of a module, loaded or not; for a namespace package its folder."""
    module = sys.modules.get(module_name)
    if module is not None:
        # Not getattr: a module may answer for any name.
        file: str | None = vars(module).get("__file__")
        return file or next(iter(vars(module).get("__path__", ())), None)
    spec = _find_spec(module_name)
    if spec is not None and spec.has_location and spec.origin:
        return spec.origin
    return next(iter((spec and spec.submodule_search_locations) or ()), None)


def is_importable(module_name: str) -> bool:
    """Whether the module can be found, without importing it."""
    return module_name in sys.modules or _find_spec(module_name) is not None


def distribution_pin(module_name: str) -> tuple[str, str]:
    """Return the ingredient of a third-party module: its distribution and version.

    A module without a distribution is identified by the hash of its files.
    """
    file, name = None, module_name
    while name and file is None:
        file, name = module_file(name), name.rpartition(".")[0]
    top = module_name.partition(".")[0]
    root = _import_root(module_name, file) if file else None
    found = _distribution_of(module_name, file, root) if root and file else None
    if found is None and top in FRAMEWORK:
        import importlib.metadata

        with suppress(importlib.metadata.PackageNotFoundError):
            found = "apache-airflow", importlib.metadata.version("apache-airflow")
    if found is not None:
        return f"distribution {found[0]}", found[1]
    return f"module {top}", _hash_of_files(file) if file else "missing"


def _find_spec(module_name: str) -> ModuleSpec | None:
    return _find_spec_on_path(module_name, tuple(sys.path))


@lru_cache(maxsize=1024)
def _find_spec_on_path(module_name: str, search_path: tuple[str, ...]) -> ModuleSpec | None:
    """Return a module's spec from the first finder that has one, without importing a parent."""
    parent, _, tail = module_name.rpartition(".")
    folders = None
    if parent:
        above = _find_spec_on_path(parent, search_path)
        loaded = vars(sys.modules[parent]).get("__path__") if parent in sys.modules else None
        folders = [*(loaded or (above.submodule_search_locations if above else None) or ())]
        if not folders:
            return None
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(module_name, folders)
        except KeyError:
            # A namespace package asks for its parent, which is not loaded.
            spec = ModuleSpec(module_name, None, is_package=True)
            spec.submodule_search_locations = [f"{folder}{os.sep}{tail}" for folder in folders or ()]
        if spec is not None:
            return spec
    return None


def _import_root(module_name: str, file: str) -> str | None:
    """Return the import folder that contains a module's file."""
    found = _SITE_PACKAGES.search(file)
    if found:
        return file[: found.end()].rstrip("/\\")
    top = module_name.partition(".")[0]
    parts = Path(file).parts
    at = next((i for i, part in enumerate(parts) if part.partition(".")[0] == top), None)
    return str(Path(*parts[:at])) if at else None


def _distribution_of(module_name: str, file: str, root: str) -> tuple[str, str] | None:
    """Return name and version of the distribution in `root` that installed a module's file."""
    index = _distribution_index(root, Path(root).stat().st_mtime_ns)
    return index.distribution_of_file(module_name.partition(".")[0], os.path.relpath(file, root))


@lru_cache(maxsize=64)
def _distribution_index(root: str, changed: int) -> _DistributionIndex:
    return _DistributionIndex(root)


class _DistributionIndex:
    """The distributions in one import folder; each is opened only when it is searched."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        folders = sorted(path.name for path in self.root.iterdir() if path.suffix in (".dist-info", ".egg-info"))
        self.folders = {name: _normalized_name(_name_in_folder(name)) for name in folders}
        self.records: dict[str, bytes] = {}
        self.found: dict[str, tuple[str, str] | None] = {}

    def distribution_of_file(self, top: str, file: str) -> tuple[str, str] | None:
        """Return name and version of the distribution that lists a file of the module `top`."""
        if file not in self.found:
            self.found[file] = self._search_records(top, file.replace(os.sep, "/"))
        return self.found[file]

    def _search_records(self, top: str, file: str) -> tuple[str, str] | None:
        needle = f"\n{file},".encode() if file.endswith((".py", ".so", ".pyd", ".pyc")) else f"\n{file}/".encode()
        for folder in self._candidate_folders(top):
            if needle in self._record(folder):
                return self._name_and_version(folder)
        for folder in self.folders:
            if not self._record(folder) and self._provides_top_level(folder, top):
                return self._name_and_version(folder)
        return None

    def _candidate_folders(self, top: str) -> Iterator[str]:
        """Yield the folders in an order in which scikit_learn comes early for `sklearn`; the caller checks each."""
        wanted = _normalized_name(top)
        yield from (folder for folder, name in self.folders.items() if name == wanted)
        yield from sorted(self.folders, key=lambda folder: _mismatch_rank(wanted, self.folders[folder]))

    def _record(self, folder: str) -> bytes:
        if folder not in self.records:
            path = self.root / folder / "RECORD"
            self.records[folder] = b"\n" + path.read_bytes() if path.is_file() else b""
        return self.records[folder]

    def _provides_top_level(self, folder: str, top: str) -> bool:
        listed = self.root / folder / "top_level.txt"
        if listed.is_file():
            return top in listed.read_text().split()
        return self.folders[folder] == _normalized_name(top)

    def _name_and_version(self, folder: str) -> tuple[str, str]:
        path = self.root / folder
        metadata = next((each for each in (path / "METADATA", path / "PKG-INFO", path) if each.is_file()), None)
        header = metadata.read_bytes().decode("utf-8", "replace").partition("\n\n")[0] if metadata else ""
        name = re.search(r"^Name: *(.+?)\s*$", header, re.MULTILINE)
        version = re.search(r"^Version: *(.+?)\s*$", header, re.MULTILINE)
        return (name[1] if name else _name_in_folder(folder)).lower(), version[1] if version else "unknown"


def _name_in_folder(folder: str) -> str:
    return folder.rpartition(".")[0].partition("-")[0]


def _normalized_name(name: str) -> str:
    return re.sub(r"[-_.]+", "", name).lower()


def _mismatch_rank(wanted: str, name: str) -> tuple[bool, int]:
    """Rank names that contain the letters in order first (scikitlearn: sklearn), shorter before longer."""
    letters = iter(name)
    return not all(letter in letters for letter in wanted), len(name)


def _hash_of_files(file: str) -> str:
    path = Path(file)
    folder = path.parent if path.name.startswith("__init__.") else path
    files = sorted(folder.rglob("*")) if folder.is_dir() else [path]
    digest = sha256()
    for each in files:
        if each.suffix in (".py", ".so", ".pyd"):
            digest.update(each.name.encode() + b"\0" + sha256(each.read_bytes()).digest())
    return digest.hexdigest()


class ResolvedName(msgspec.Struct, frozen=True):
    """What a chain of names refers to: a value of the project, or a name outside of it.

    `path` is the public name (`numpy.random.rand`) of what comes from outside the project, `module` the outside module
    it starts in, `qualified_name` the name of a project's value (`config.LIMIT`), `unresolved` the attributes that were
    not followed.
    """

    value: Any = MISSING
    path: str = ""
    module: str = ""
    qualified_name: str = ""
    unresolved: tuple[str, ...] = ()


class Scope(msgspec.Struct, frozen=True):
    """The names that a piece of code sees; `imports` are those that its file binds by imports."""

    globals: Mapping[str, Any]
    imports: Mapping[str, tuple[Import, ...]] = msgspec.field(default_factory=dict)
    cells: Mapping[str, Any] = msgspec.field(default_factory=dict)
    label: str = ""

    def resolve(self, reference: Reference) -> Iterator[ResolvedName]:
        """Yield everything that a reference may refer to: imports inside the code, or the nearest scope."""
        name, rest = reference.chain[0], reference.chain[1:]
        if reference.imports:
            yield from (self._resolve_import(imported, rest) for imported in reference.imports)
        elif name in self.cells:
            yield _resolve_attributes(self.cells[name], f"{self.label}.{name}", rest)
        elif name in self.globals:
            yield self._resolve_global(name, rest)
        elif hasattr(builtins, name):
            yield ResolvedName(getattr(builtins, name), f"builtins.{name}", "builtins", unresolved=rest)
        else:
            yield ResolvedName()

    def _resolve_global(self, name: str, rest: tuple[str, ...]) -> ResolvedName:
        value = self.globals[name]
        for imported in self.imports.get(name, ()) if not isinstance(value, ModuleType) else ():
            module = self._absolute_module(imported)
            original = getattr(sys.modules.get(module), imported.attribute, MISSING) if imported.attribute else MISSING
            if original is value and origin_of_module(module) != "project":
                return ResolvedName(value, ".".join((module, imported.attribute, *rest)), module)
        return _resolve_attributes(value, f"{module_label(self.globals)}.{name}", rest)

    def _absolute_module(self, imported: Import) -> str:
        if not imported.level:
            return imported.module
        package = str(self.globals.get("__package__") or self.globals.get("__name__", ""))
        parts = package.split(".")
        return ".".join([*parts[: len(parts) - imported.level + 1], *filter(None, [imported.module])])

    def _resolve_import(self, imported: Import, rest: tuple[str, ...]) -> ResolvedName:
        module = self._absolute_module(imported)
        names = (imported.attribute, *rest) if imported.attribute else rest
        if not is_importable(module):
            return ResolvedName(path=".".join((module, *names)), module="")
        if origin_of_module(module) != "project":
            return _external_name(module, names)
        return _resolve_attributes(importlib.import_module(module), module, names)


def _resolve_attributes(value: Any, qualified_name: str, rest: tuple[str, ...]) -> ResolvedName:
    """Follow attributes while the value is a module of the project."""
    while isinstance(value, ModuleType):
        if origin_of_module(value.__name__, vars(value).get("__file__")) != "project":
            return _external_name(value.__name__, rest)
        if not rest:
            return ResolvedName(value, qualified_name=qualified_name)
        qualified_name = f"{module_label(vars(value))}.{rest[0]}"
        submodule = f"{value.__name__}.{rest[0]}"
        if rest[0] not in vars(value) and "__path__" in vars(value) and is_importable(submodule):
            value, rest = importlib.import_module(submodule), rest[1:]
        else:
            value, rest = getattr(value, rest[0], MISSING), rest[1:]
    return ResolvedName(value, qualified_name=qualified_name, unresolved=rest)


def _external_name(module: str, names: tuple[str, ...]) -> ResolvedName:
    """Return a name outside the project, with the deepest module of its path."""
    path = ".".join((module, *names))
    for name in names:
        deeper = f"{module}.{name}"
        is_namespace = not (module_file(module) or ".py").endswith((".py", ".pyc", ".so", ".pyd"))
        if deeper not in sys.modules and not (is_namespace and is_importable(deeper)):
            break
        module = deeper
    return ResolvedName(path=path, module=module)


def module_label(module_globals: Mapping[str, Any]) -> str:
    """Return the name of the module that globals belong to, the same on every machine."""
    return stable_module_name(str(module_globals.get("__name__", "")), module_globals.get("__file__"))


def is_inert(value: Any) -> bool:
    """Whether a value is a logger or a lock, on which no result depends."""
    cls = type(value)
    if isinstance(value, logging.Logger | logging.LoggerAdapter) or cls.__module__.partition(".")[0] == "structlog":
        return True
    return cls.__module__ in _LOCK_MODULES and cls.__name__ in _LOCKS


def unwrap_callable(value: Any) -> Any:
    """Return the function inside partials, methods and wrappers."""
    while True:
        inside = wrapped_callable(value)
        if inside is None and isinstance(value, functools.partial | MethodType):
            inside = value.func if isinstance(value, functools.partial) else value.__func__
        if inside is None:
            return value
        value = inside


def wrapped_callable(value: Any) -> Any:
    """Return the callable that a wrapper declares to wrap, or None."""
    if isinstance(value, type):
        return None
    attributes = getattr(value, "__dict__", {})
    wrapped = attributes.get("__wrapped__")
    if wrapped is None and _is_in_framework_module(type(value)):
        wrapped = attributes.get("function")
    return wrapped if callable(wrapped) else None


def is_framework_object(value: Any) -> bool:
    """Whether a value is a decorator of Airflow or our own, or was made by one."""
    while isinstance(value, functools.partial):
        value = value.func
    name = value.__name__ if hasattr(value, "__path__") or hasattr(value, "__loader__") else None
    named = value if isinstance(value, type | FunctionType | BuiltinFunctionType) else type(value)
    return _is_in_framework_module(named) or str(name).partition(".")[0] in FRAMEWORK


def _is_in_framework_module(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).partition(".")[0] in FRAMEWORK


def importable_name(value: Any) -> tuple[str, str] | None:
    """Return module and qualified name of a value that can be imported by them, as pickle would."""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    module = getattr(value, "__module__", None)
    if not isinstance(name, str) or not isinstance(module, str):
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return (module, name) if found is value else None
