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
    from airflow_zen.artifacts.streaming import VerifiedStream
    from airflow_zen.materializers.registry import MaterializerRegistry


class NestedValues:
    """Save values under `parts/<n>/` of an artifact, each by its own materializer.

    `saved` lists what has been saved so far, as `{"path", "encoding", "type"}`, with `shape` if it is known.
    """

    def __init__(self, registry: MaterializerRegistry, directory: Path) -> None:
        self.registry = registry
        self.saved: list[dict[str, str]] = []
        self._directory = directory

    def is_nested_type(self, cls: type) -> bool:
        """Whether values of a type are stored as files rather than JSON; raises `MaterializerNotFound`."""
        return self.registry.for_type(cls).encoding != "python.json@1"

    def is_better_nested(self, value: Any) -> bool:
        """Whether a value that could be JSON is stored as a file."""
        return bool(preferred_encoding(value))

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
        shape = {"shape": saved.summary["shape"]} if "shape" in saved.summary else {}
        self.saved.append({**reference, **shape})
        return reference


class InlineOnly(NestedValues):
    """Refuse nested files in a `location` that has none, such as a set or a cell of a table."""

    def __init__(self, registry: MaterializerRegistry, location: str) -> None:
        super().__init__(registry, Path())
        self._location = location

    def is_better_nested(self, value: Any) -> bool:
        """Return False: what can be JSON is JSON."""
        return False

    def save(self, value: Any) -> Mapping[str, str]:
        """Raise `SaveRefused`."""
        raise SaveRefused(f"A {type_name(type(value))} in {self._location} is not stored. Keep it in a list or a dict.")


def preferred_encoding(value: Any) -> str:
    """Return the encoding of a value that could be JSON but is stored as one file: large bytes, a dict of tensors; else ""."""
    if is_large_bytes(value):
        return "python.bytes@1"
    return "torch.state@1" if _is_state_dict(value) else ""


def _is_state_dict(value: Any) -> bool:
    """Whether a value is a dict of PyTorch's tensors by name, such as `module.state_dict()`."""
    if "torch" not in sys.modules or type(value) not in (dict, OrderedDict) or not value:
        return False
    return all(type(key) is str and "torch.Tensor" in base_names(type(item)) for key, item in value.items())


class DirectoryReader(ArtifactReader):
    """Read one local directory as if it were an artifact of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def directory(self) -> Path:
        """Return the directory."""
        return self._directory

    def open(self, name: str) -> Path:
        """Return the path of a file."""
        return self._directory / name

    def stream(self, name: str) -> VerifiedStream | None:
        """Return None: no file is downloaded."""
        return None

    def object_store_url(self, name: str) -> tuple[str, Mapping[str, str]] | None:
        """Return None: the file is local."""
        return None
