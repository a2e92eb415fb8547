"""Load an artifact as the type that is asked for, or say that it is no such thing."""

from __future__ import annotations

import atexit
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.errors import InputError
from airflow_zen.materializers.declared import contains_path, strip_annotation
from airflow_zen.materializers.views import is_stream_annotation
from airflow_zen.stack import Stack
from airflow_zen.steps.fit import coerce
from airflow_zen.steps.place import InputPath


def process_directory(stack: Stack) -> Path:
    """Lend a directory that lives as long as the process: a loaded value may map its files into memory."""
    directory = stack.store.temporary_directory()
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def load_for_process(stack: Stack, ref: ArtifactRef, wanted: Any) -> Any:
    """Load a value as `load_as_type` does, for as long as the process lives."""
    directory = process_directory(stack)
    value = load_as_type(stack, ref, directory, wanted)
    if ref.inline and ref.encoding.startswith("python.json@") and not contains_path(wanted):
        shutil.rmtree(directory, ignore_errors=True)
    with suppress(OSError):
        # Most values leave nothing in it; what is fetched later makes it anew.
        directory.rmdir()
    return value


def load_as_type(stack: Stack, ref: ArtifactRef, into: Path, wanted: Any, name: str = "") -> Any:
    """Give the value of a ref as `Stack.load` does, held against `wanted`, a number widened to it.

    `name` says what it is loaded for. Raises `InputError` for a value that neither is what is asked for nor has a view
    of that kind. Nothing is asked of None, and of batches, which come one by one.
    """
    if isinstance(wanted, str):
        raise InputError(f"A type is asked for as itself, such as pandas.DataFrame, got the text {wanted!r}.")
    value = stack.load(ref, into, wanted)
    if value is None or is_stream_annotation(strip_annotation(wanted)):
        return value
    return coerce(value, wanted, InputPath(name or f"artifact {ref.name or ref.digest[:12]}"))
