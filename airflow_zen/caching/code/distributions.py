"""The origin of a module or a value: the project, the standard library or a distribution."""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Literal

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()
CodeOrigin = Literal["project", "third-party", "stdlib"]

# Not project code, even when they run from a checkout.
FRAMEWORK = ("airflow", "airflow_zen")

_LOCK_MODULES = ("_thread", "threading", "multiprocessing.synchronize")
_LOCKS = ("lock", "Lock", "RLock", "_RLock", "Semaphore", "BoundedSemaphore", "Condition")
_WITHOUT_SEPARATORS = str.maketrans("", "", "-_.")
_EXTENSIONS = tuple(EXTENSION_SUFFIXES)
_SITE_PACKAGES = re.compile(r"[/\\](site|dist)-packages([/\\]|$)")
_STDLIB_FOLDERS = tuple({sysconfig.get_path("stdlib") + os.sep, sysconfig.get_path("platstdlib") + os.sep})


def origin_of_module(module_name: str, file: str | None = None) -> CodeOrigin:
    """Return the origin of a module, by the path of its file.

    A module is a library's if it is in site-packages or dist-packages, or if a distribution beside it lists it as
    installed. An editable install lists none of its modules.
    """
    file = file or module_file(module_name)
    top = module_name.partition(".")[0]
    if top == "airflow_zen" or module_name == "airflow":
        return "third-party"
    if file is None or file.startswith("<frozen"):
        return "stdlib" if top in sys.stdlib_module_names or top == "builtins" else "project"
    if top == "airflow" and _is_airflow(module_name, file):
        return "third-party"
    return _origin_of_file(module_name, file)


def _is_airflow(module_name: str, file: str) -> bool:
    """Whether a module below `airflow` is Airflow's own, in a checkout too; `airflow.providers` is open to all."""
    own = module_file("airflow")
    return module_name.startswith("airflow.sdk") or (
        own is not None and file.startswith(own.removesuffix("__init__.py"))
    )


@lru_cache(maxsize=4096)
def _origin_of_file(module_name: str, file: str) -> CodeOrigin:
    if _SITE_PACKAGES.search(file):
        return "project" if _is_linked_checkout(module_name, file) else "third-party"
    if file.startswith(_STDLIB_FOLDERS):
        return "stdlib"
    # `pip install --target` puts modules into a folder of another name.
    return "third-party" if _distribution_of(module_name, file) else "project"


def _is_linked_checkout(module_name: str, file: str) -> bool:
    """Whether a file in site-packages is a link to a checkout, as flit makes them; uv and conda link to listed files."""
    real = os.path.realpath(file)
    return real != file and not _SITE_PACKAGES.search(real) and _distribution_of(module_name, file) is None


def module_file(module_name: str) -> str | None:
    """Return the file of a module, loaded or not; for a namespace package its folder."""
    module = sys.modules.get(module_name)
    if module is not None:
        # Not getattr: a module may answer for any name.
        file: str | None = vars(module).get("__file__")
        return file or next(iter(vars(module).get("__path__", ())), None)
    spec = _find_spec(module_name) if module_name else None
    if spec is not None and spec.has_location and spec.origin:
        return spec.origin
    return next(iter((spec and spec.submodule_search_locations) or ()), None)


def is_compiled(file: str | None) -> bool:
    """Whether a file is an extension module."""
    return bool(file) and str(file).endswith(_EXTENSIONS)


def is_importable(module_name: str) -> bool:
    """Whether the module can be found, without importing it."""
    return module_name in sys.modules or _find_spec(module_name) is not None


def distribution_pin(module_name: str) -> tuple[str, str]:
    """Return the ingredient of a third-party module: its distribution, with its version and perhaps its files.

    A module without a distribution is identified by the hash of its files.
    """
    file, name = None, module_name
    while name and file is None:
        file, name = module_file(name), name.rpartition(".")[0]
    top = module_name.partition(".")[0]
    found = _distribution_of(module_name, file) if file else None
    if found is None and top in FRAMEWORK:
        import importlib.metadata

        with suppress(importlib.metadata.PackageNotFoundError):
            found = "apache-airflow", importlib.metadata.version("apache-airflow")
    if found is not None:
        return f"distribution {found[0]}", found[1]
    return f"module {top}", _hash_of_files(Path(file)) if file else "missing"


def installed_distributions(folder: str) -> dict[str, str]:
    """Return the identity of each distribution in an import folder, by name in lower case."""
    index = _distribution_index(folder, os.stat(folder).st_mtime_ns)  # noqa: PTH116
    return dict(map(index.identity, index.folders))


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
    path = Path(file)
    parts = path.parts[:-1] if path.stem == "__init__" else (*path.parts[:-1], path.name.partition(".")[0])
    names = tuple(module_name.split("."))
    return str(Path(*parts[: -len(names)])) if parts[-len(names) :] == names else None


def _distribution_of(module_name: str, file: str) -> tuple[str, str] | None:
    """Return the distribution that installed a module's file, and what identifies its content."""
    root = _import_root(module_name, file)
    if not root:
        return None
    try:
        changed = os.stat(root).st_mtime_ns  # noqa: PTH116 - called for each module
    except OSError:
        return None
    index = _distribution_index(root, changed)
    return index.distribution_of_file(module_name.partition(".")[0], os.path.relpath(file, root))


@lru_cache(maxsize=64)
def _distribution_index(root: str, changed: int) -> _DistributionIndex:
    return _DistributionIndex(root)


class _DistributionIndex:
    """The distributions in one import folder; each is opened only when it is searched."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        # In a checkout the build leaves an .egg-info, which lists what it would install.
        kinds = (".dist-info", ".egg-info") if _SITE_PACKAGES.search(root) else (".dist-info",)
        folders = sorted(path.name for path in self.root.iterdir() if path.suffix in kinds)
        self.folders = {name: _normalized_name(_name_in_folder(name)) for name in folders}
        self.records: dict[str, bytes] = {}
        self.found: dict[str, tuple[str, str] | None] = {}

    def distribution_of_file(self, top: str, file: str) -> tuple[str, str] | None:
        """Return the distribution that lists a file of the module `top`, and what identifies its content."""
        if file not in self.found:
            folder = self._search_records(top, file.replace(os.sep, "/"))
            self.found[file] = self.identity(folder) if folder else None
        return self.found[file]

    def _search_records(self, top: str, file: str) -> str | None:
        needle = f"\n{file},".encode() if file.endswith((".py", ".so", ".pyd", ".pyc")) else f"\n{file}/".encode()
        for folder in self._candidate_folders(top):
            if needle in self._record(folder) and not self._is_editable(folder):
                return folder
        unlisted = (folder for folder in self.folders if not self._record(folder))
        in_site = bool(_SITE_PACKAGES.search(str(self.root)))
        return next((folder for folder in unlisted if in_site and self._provides_top_level(folder, top)), None)

    def _is_editable(self, folder: str) -> bool:
        return b'"editable": true' in self._read(folder, "direct_url.json")

    def _read(self, folder: str, name: str) -> bytes:
        path = self.root / folder / name
        return path.read_bytes() if path.is_file() else b""

    def _candidate_folders(self, top: str) -> Iterator[str]:
        """Yield folders, the most similar names first, such as scikit_learn for `sklearn`; the caller checks each."""
        wanted = _normalized_name(top)
        yield from (folder for folder, name in self.folders.items() if name == wanted)
        yield from sorted(self.folders, key=lambda folder: _mismatch_rank(wanted, self.folders[folder]))

    def _record(self, folder: str) -> bytes:
        if folder not in self.records:
            self.records[folder] = b"\n" + found if (found := self._read(folder, "RECORD")) else b""
        return self.records[folder]

    def _provides_top_level(self, folder: str, top: str) -> bool:
        listed = self.root / folder / "top_level.txt"
        if listed.is_file():
            return top in listed.read_text().split()
        return self.folders[folder] == _normalized_name(top)

    def identity(self, folder: str) -> tuple[str, str]:
        """Return the name, and the version with the hash of the listed files where the version does not identify them.

        The files of a compiled library differ between machines, so that it counts by its version, unless it was
        installed from a file or a repository.
        """
        path = self.root / folder
        metadata = next((each for each in (path / "METADATA", path / "PKG-INFO", path) if each.is_file()), None)
        header = metadata.read_bytes().decode("utf-8", "replace").partition("\n\n")[0] if metadata else ""
        fields = dict(line.split(": ", 1) for line in reversed(header.splitlines()) if ": " in line)
        is_local = b"Root-Is-Purelib: true" in self._read(folder, "WHEEL") or self._read(folder, "direct_url.json")
        files = f" ({self._hash_of_record(folder)})" if is_local else ""
        return fields.get("Name", _name_in_folder(folder)).strip().lower(), fields.get(
            "Version", "unknown"
        ).strip() + files

    def _hash_of_record(self, folder: str) -> str:
        """Hash the listed files, without what the installer wrote: scripts, metadata and compiled code."""
        ours = (b"../", f"{folder}/".encode())
        lines = self._record(folder).replace(b"\r", b"").split(b"\n")
        return sha256(b"\n".join(sorted(x for x in lines if not x.startswith(ours) and b".pyc," not in x))).hexdigest()[
            :12
        ]


def _name_in_folder(folder: str) -> str:
    return folder.rpartition(".")[0].partition("-")[0]


def _normalized_name(name: str) -> str:
    return name.translate(_WITHOUT_SEPARATORS).lower()


def _mismatch_rank(wanted: str, name: str) -> tuple[bool, int]:
    """Rank names that contain the letters in order first (scikitlearn: sklearn), shorter names before longer."""
    letters = iter(name)
    return not all(letter in letters for letter in wanted), len(name)


def _hash_of_files(file: Path) -> str:
    """Hash the files of the package that a file belongs to, or the file alone."""
    folder = file if file.is_dir() else file.parent
    while (folder.parent / "__init__.py").is_file():
        folder = folder.parent
    is_package = file.is_dir() or (folder / "__init__.py").is_file()
    digest = sha256()
    for each in sorted(folder.rglob("*")) if is_package else [file]:
        if each.suffix in (".py", ".so", ".pyd"):
            digest.update(each.relative_to(folder).as_posix().encode() + b"\0" + sha256(each.read_bytes()).digest())
    return digest.hexdigest()


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
    if isinstance(value, ModuleType):
        return _is_framework_module(value.__name__)
    named = value if isinstance(value, type | FunctionType | BuiltinFunctionType) else type(value)
    name = value.__name__ if hasattr(value, "__path__") or hasattr(value, "__loader__") else None
    return _is_in_framework_module(named) or _is_framework_module(str(name))


def _is_in_framework_module(value: Any) -> bool:
    return _is_framework_module(str(getattr(value, "__module__", "")))


def _is_framework_module(name: str) -> bool:
    return name.partition(".")[0] in FRAMEWORK and origin_of_module(name) != "project"


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
