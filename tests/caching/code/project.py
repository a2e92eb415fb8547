"""Projects written to disk and imported from there, as the subject of tests."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

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
