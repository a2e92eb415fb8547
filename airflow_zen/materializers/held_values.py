"""Values that the next step of the same process gets without loading them."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.materializers.annotations import View

# Of these the materializers return exactly what was saved. A model may have parts beside what is saved of it.
_TABLES_AND_ARRAYS = ("pandas.", "numpy.", "arrow.", "polars.")


class HeldValues:
    """Hold an output of the step that was computed last, for one step after it.

    No code of a user runs between the save of an output and its use by the next computed step, so the value is what is
    stored. It is given away once: a step may change it in place, and every later one loads what is stored. Of several
    outputs, which may share memory, only the largest is held.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._values: dict[str, Any] = {}

    def keep(self, values: Mapping[str, Any], refs: Mapping[str, ArtifactRef]) -> None:
        """Hold the outputs of a computed step in place of what was held."""
        names = [name for name in refs if name in values and _is_exact(values[name], refs[name])]
        largest = max(names, key=lambda name: refs[name].size, default=None)
        with self._lock:
            self._values = {} if largest is None else {refs[largest].digest: values[largest]}

    def holds(self, ref: ArtifactRef) -> bool:
        """Whether the value of a ref is held."""
        return ref.digest in self._values

    def take(self, ref: ArtifactRef, view: View) -> Any:
        """Return the value of a ref, and hold it no longer; None where it is not held, or wanted as another type."""
        with self._lock:
            value = self._values.get(ref.digest)
            is_wanted = view.cls in (None, type(value)) and not view.columns and not view.batches
            return self._values.pop(ref.digest) if value is not None and is_wanted else None


def _is_exact(value: Any, ref: ArtifactRef) -> bool:
    return ref.encoding.startswith(_TABLES_AND_ARRAYS) and type_name(type(value)) == ref.type
