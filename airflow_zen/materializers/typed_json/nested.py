"""The values inside a typed JSON that are stored in files beside it."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.artifacts.reader import ArtifactReader
from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.files import is_large_bytes
from airflow_zen.type_names import base_names, type_name

if TYPE_CHECKING:
    from airflow_zen.materializers.registry import MaterializerRegistry


class NestedValues:
    """Save values under `parts/<n>/` of an artifact, each by its own materializer.

    `saved` lists what has been saved so far, as `{"path", "encoding", "type"}`, with `shape` if it is known.
    """

    prefers_files = True
    """Whether values of `preferred_encoding` are stored as files, although they could be JSON."""

    def __init__(self, registry: MaterializerRegistry, directory: Path) -> None:
        self.registry = registry
        self.saved: list[dict[str, str]] = []
        self._directory = directory

    def save(self, value: Any) -> Mapping[str, str]:
        """Save one value, and return the reference to it; raises `SaveRefused` for a query plan or a stream."""
        if not isinstance(value, self.registry.for_type(type(value)).stored_type(value)):
            raise SaveRefused(
                f"A {type_name(type(value))} inside another value is not stored, because it would come back as its result. "
                "Collect it first, or return it as an output of its own."
            )
        path = f"parts/{len(self.saved)}"
        (self._directory / path).mkdir(parents=True)
        saved = self.registry.save(value, self._directory / path)
        reference = {"path": path, "encoding": saved.encoding, "type": saved.type}
        self.saved.append({**reference, **{name: saved.summary[name] for name in ("shape",) if name in saved.summary}})
        return reference


class InlineOnly(NestedValues):
    """Refuse nested files in a `location` that has none, such as a set or a cell of a table."""

    prefers_files = False

    def __init__(self, registry: MaterializerRegistry, location: str) -> None:
        super().__init__(registry, Path())
        self._location = location

    def save(self, value: Any) -> Mapping[str, str]:
        """Raise `SaveRefused`."""
        raise SaveRefused(f"A {type_name(type(value))} in {self._location} is not stored. Keep it in a list or a dict.")


def preferred_encoding(value: Any) -> str:
    """Return the encoding of a value that could be JSON but is stored as one file: large bytes, a dict of tensors; else ""."""
    if is_large_bytes(value):
        return "python.bytes@1"
    if "torch" not in sys.modules or type(value) not in (dict, OrderedDict) or not value:
        return ""
    named_tensors = (type(key) is str and "torch.Tensor" in base_names(type(item)) for key, item in value.items())
    return "torch.state@1" if all(named_tensors) else ""


class DirectoryReader(ArtifactReader):
    """Read one local directory as if it were an artifact of its own."""

    def __init__(self, directory: Path) -> None:
        self._local_directory = directory

    def stream(self, name: str) -> None:
        """Return None: no file is downloaded."""

    def object_store_url(self, name: str) -> None:
        """Return None: the file is local."""
