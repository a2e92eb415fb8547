"""Projects written to disk and imported from there, as the subject of tests."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from airflow_zen.caching.code import CodeFingerprint, fingerprint_code
from airflow_zen.fingerprint import combine_fingerprints


class Project:
    """A folder of modules; the step under test is the function `step` of `flow.py`."""

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self.folder = folder
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    @contextmanager
    def imported(self, name: str = "flow") -> Iterator[ModuleType]:
        """Import a module of the project, and forget all of the project's modules afterwards."""
        before = set(sys.modules)
        sys.path.insert(0, str(self.folder))
        importlib.invalidate_caches()
        try:
            yield importlib.import_module(name)
        finally:
            sys.path.remove(str(self.folder))
            for one in set(sys.modules) - before:
                if str(getattr(sys.modules[one], "__file__", None) or "").startswith(str(self.folder)):
                    del sys.modules[one]

    def code(self) -> CodeFingerprint:
        """Return the code fingerprint of the step."""
        with self.imported() as flow:
            return fingerprint_code(flow.step)

    def key(self) -> str:
        """Return the key of the step's code."""
        return combine_fingerprints(self.code().ingredients)


SAME, DIFFERENT = True, False


class Edit(NamedTuple):
    """One project, and one change to one of its files."""

    name: str
    files: dict[str, str]
    file: str
    old: str
    new: str
    same: bool

    def check(self, folder: Path) -> None:
        """Assert that the key changes with the edit, unless it must stay the same."""
        assert self.files[self.file].count(self.old), "the edit must change something"
        after = {**self.files, self.file: self.files[self.file].replace(self.old, self.new)}
        assert after != self.files
        before_key = Project(folder / "before", self.files).key()
        after_key = Project(folder / "after", after).key()
        assert (before_key == after_key) is self.same
        assert self.same or Project(folder / "again", self.files).key() == before_key, "the checkout must not matter"


def flow(name: str, text: str, old: str, new: str, same: bool) -> Edit:
    """An edit of a project of one file."""
    return Edit(name, {"flow.py": text}, "flow.py", old, new, same)


def pair(name: str, flow: str, helpers: str, old: str, new: str, same: bool) -> Edit:
    """An edit of the module that the step's file imports."""
    return Edit(name, {"flow.py": flow, "helpers.py": helpers}, "helpers.py", old, new, same)
