"""The values inside a tree that are no JSON, and lie in files beside it."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.binary import is_large_bytes
from airflow_zen.materializers.names import type_name
from airflow_zen.materializers.registry import MaterializerRegistry


class NestedValues:
    """Save values under `parts/<n>/` of an artifact, each by its own materializer.

    `saved` lists what has been saved so far, as `{"path", "encoding", "type"}`, with `shape` where there is one.
    """

    def __init__(self, registry: MaterializerRegistry, directory: Path) -> None:
        self.registry = registry
        self.saved: list[dict[str, str]] = []
        self._directory = directory

    def is_nested_type(self, cls: type) -> bool:
        """Tell whether values of a type are parts rather than JSON; raises `MaterializerNotFound`."""
        return self.registry.for_type(cls).encoding != "python.json@1"

    def is_better_nested(self, value: Any) -> bool:
        """Tell whether a value that could be JSON is better a part."""
        return bool(preferred_encoding(value))

    def save(self, value: Any) -> Mapping[str, str]:
        """Save one value, and give the reference to it; raises `SaveRefused` for a plan or a stream."""
        if not isinstance(value, self.registry.for_type(type(value)).stored_type(value)):
            raise SaveRefused(
                f"A {type_name(type(value))} inside another value is not stored, since it would come back as what it "
                f"gives. Collect it first, or return it as an output of its own."
            )
        path = f"parts/{len(self.saved)}"
        (self._directory / path).mkdir(parents=True)
        saved = self.registry.save(value, self._directory / path)
        reference = {"path": path, "encoding": saved.encoding, "type": saved.type}
        shape = {"shape": saved.summary["shape"]} if "shape" in saved.summary else {}
        self.saved.append({**reference, **shape})
        return reference


class InlineOnly(NestedValues):
    """Refuse parts in a `location` that has no files of its own, such as a set or a cell of a table."""

    def __init__(self, registry: MaterializerRegistry, location: str) -> None:
        super().__init__(registry, Path())
        self._location = location

    def is_better_nested(self, value: Any) -> bool:
        """There is no place for parts."""
        return False

    def save(self, value: Any) -> Mapping[str, str]:
        """Raise `SaveRefused`."""
        raise SaveRefused(f"A {type_name(type(value))} in {self._location} is not stored. Keep it in a list or a dict.")


def preferred_encoding(value: Any) -> str:
    """Name the encoding of what could be JSON and is better one file: large bytes, a dict of tensors; "" for all else."""
    if is_large_bytes(value):
        return "python.bytes@1"
    return "torch.state@1" if _is_state_dict(value) else ""


def _is_state_dict(value: Any) -> bool:
    """Tell whether a value is a dict of PyTorch's tensors by name, such as `module.state_dict()`."""
    if "torch" not in sys.modules or type(value) not in (dict, OrderedDict) or not value:
        return False
    return all(type(key) is str and _is_tensor(type(item)) for key, item in value.items())


def _is_tensor(cls: type) -> bool:
    return any((base.__module__, base.__qualname__) == ("torch", "Tensor") for base in cls.__mro__)
