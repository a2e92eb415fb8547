"""What a library's error is called where a materializer ran into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_zen.errors import ArtifactRefused, MaterializerNotFound, ZenError
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.names import type_name
from airflow_zen.materializers.views import View

_MAX_ERROR_LENGTH = 300


@contextmanager
def missing_library_errors(materializer: Materializer) -> Iterator[None]:
    """Turn the absence of a library into an error that names what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = f"airflow-provider-zen[{materializer.extra}]" if materializer.extra else error.name
        raise MaterializerNotFound(
            f"{materializer.encoding} needs {error.name}, which is not installed here. Install {package}."
        ) from error


@contextmanager
def conversion_errors(materializer: Materializer, encoding: str, wanted: Any) -> Iterator[None]:
    """Say of what one library stored that it has no form as another's value, where that fails to be made of it."""
    try:
        yield
    except (ZenError, ImportError, MemoryError, OSError):
        raise
    except Exception as error:
        if materializer.encoding == encoding:
            raise
        name = type_name(wanted) if isinstance(wanted, type) else wanted
        raise ArtifactRefused(
            f"What is stored as {encoding} has no form as {name}: {_shorten_error(error)}. Ask for what was saved, or for no type, and "
            "convert it there."
        ) from error


def _shorten_error(error: Exception) -> str:
    """Cut a text that may list all columns of a table."""
    text = str(error).strip().rstrip(".")
    return text if len(text) <= _MAX_ERROR_LENGTH else f"{text[:_MAX_ERROR_LENGTH]}…"


def iterate_with_conversion_errors(
    parts: Iterator[Any], materializer: Materializer, encoding: str, view: View
) -> Iterator[Any]:
    """Go through the parts of a view, each made as `conversion_errors` has it."""
    parts = iter(parts)
    while True:
        with conversion_errors(materializer, encoding, view):
            try:
                part = next(parts)
            except StopIteration:
                return
        yield part
