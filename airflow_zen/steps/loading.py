"""Load an artifact as the type that is asked for, or say that it is no such thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.materializers.declared import bare
from airflow_zen.materializers.views import is_stream
from airflow_zen.stack import Stack
from airflow_zen.steps.fit import fit
from airflow_zen.steps.place import InputPlace


def load_as(stack: Stack, ref: ArtifactRef, into: Path, wanted: Any, name: str = "") -> Any:
    """Give the value of a ref as `Stack.load` does, held against `wanted`, a number widened to it.

    `name` says what it is loaded for. Raises `InputError` for a value that neither is what is asked for nor has a view
    of that kind. Nothing is asked of None, and of batches, which come one by one.
    """
    value = stack.load(ref, into, wanted)
    if value is None or is_stream(bare(wanted)):
        return value
    return fit(value, wanted, InputPlace(name or f"artifact {ref.name or ref.digest[:12]}"))
