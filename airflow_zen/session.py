"""`load` and `save` for plain tasks and notebooks: the deployment's own stack, opened for one call."""

from __future__ import annotations

import atexit
import shutil
from collections.abc import Mapping
from typing import Any, TypeVar, overload

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.settings import open_stack

T = TypeVar("T")


@overload
def load(ref: ArtifactRef | Mapping[str, Any], as_type: type[T]) -> T: ...


@overload
def load(ref: ArtifactRef | Mapping[str, Any], as_type: None = None) -> Any: ...


def load(ref: ArtifactRef | Mapping[str, Any], as_type: Any = None) -> Any:
    """Give the value of an artifact, from its ref or from what XCom holds of it.

    `as_type` asks for another view, such as `pathlib.Path` or `polars.DataFrame`. Raises
    `ArtifactRefused` for what is no ref of this artifact root, `ArtifactNotFound`, `ArtifactCorrupt`.
    """
    ref = ref if isinstance(ref, ArtifactRef) else ArtifactRef.from_wire(ref)
    # A loaded value may map its files into memory, so they live as long as the process.
    stack = open_stack()
    directory = stack.store.lend()
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return stack.load(ref, directory, as_type)


def save(value: Any, name: str = "") -> ArtifactRef:
    """Store a value as an artifact and give its ref; what `@ml_step` does with its outputs."""
    return open_stack().save(value, name).ref
