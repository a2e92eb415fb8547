"""The origin of modules: project, standard library, or a distribution and its version; found without an import."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Literal

CodeOrigin = Literal["project", "third-party", "stdlib"]

# Not project code, even when they run from a checkout.
FRAMEWORK = ("airflow", "airflow_zen")

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
    return "third-party" if _is_in_target_install(module_name, file) else "project"


def module_file(module_name: str) -> str | None:
    """Return the file of a module, loaded or not; for a namespace package its folder."""
    module = sys.modules.get(module_name)
    if module is not None:
        # Not getattr: a module may answer for any name.
        file: str | None = vars(module).get("__file__")
        return file or next(iter(vars(module).get("__path__", ())), None)
    spec = _find_spec(module_name)
    return _location_of_spec(spec) if spec else None


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


def _location_of_spec(spec: ModuleSpec) -> str | None:
    if spec.has_location and spec.origin:
        return spec.origin
    return next(iter(spec.submodule_search_locations or ()), None)


def _import_root(module_name: str, file: str) -> str | None:
    """Return the import folder that contains a module's file."""
    found = _SITE_PACKAGES.search(file)
    if found:
        return file[: found.end()].rstrip("/\\")
    top = module_name.partition(".")[0]
    parts = Path(file).parts
    at = next((i for i, part in enumerate(parts) if part.partition(".")[0] == top), None)
    return str(Path(*parts[:at])) if at else None


def _is_in_target_install(module_name: str, file: str) -> bool:
    """Whether `pip install --target` put a module into a folder of another name."""
    root = _import_root(module_name, file)
    return bool(root and Path(root).is_dir() and _distribution_of(module_name, file, root))


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


def _mismatch_rank(wanted: str, name: str) -> tuple[int, int]:
    """Rank names that contain the letters in order first (scikitlearn: sklearn), shorter before longer."""
    letters = iter(name)
    return (0 if all(letter in letters for letter in wanted) else 1), len(name)


def _hash_of_files(file: str) -> str:
    path = Path(file)
    folder = path.parent if path.name.startswith("__init__.") else path
    files = sorted(folder.rglob("*")) if folder.is_dir() else [path]
    digest = sha256()
    for each in files:
        if each.suffix in (".py", ".so", ".pyd"):
            digest.update(each.name.encode() + b"\0" + sha256(each.read_bytes()).digest())
    return digest.hexdigest()
