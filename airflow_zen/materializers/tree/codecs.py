"""Find the codec of a value or of a tag; those of optional libraries are imported when one appears."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from airflow_zen.errors import MaterializerNotFound
from airflow_zen.materializers.tree import containers, records, scalars, times
from airflow_zen.materializers.tree.codec import Codec

_HERE = "airflow_zen.materializers"
_LIBRARIES = {
    "numpy": f"{_HERE}.numpy.scalars",
    "pandas": f"{_HERE}.pandas.scalars",
    "pendulum": f"{_HERE}.tree.pendulum",
}
_BY_TYPE: dict[type, Codec] = {**scalars.CODECS, **times.CODECS, **containers.CODECS}
_BY_TAG = {codec.tag: codec for codec in (*scalars.ALL, *_BY_TYPE.values(), *records.CODECS)}


def codec_of(value: Any) -> Codec | None:
    """Find who writes a built-in or a library's scalar; None for every other value."""
    return _BY_TYPE.get(type(value)) or _of_library(value)


def codec_tagged(tag: str) -> Codec:
    """Find who reads a tag, such as `tuple` or `numpy.scalar`; raises `MaterializerNotFound`."""
    known = _BY_TAG.get(tag) or _tags_of(tag.partition(".")[0]).get(tag)
    if known is None:
        raise MaterializerNotFound(
            f"python.json@1 has a value tagged {tag!r}, which this airflow_zen does not read. Install a newer one."
        )
    return known


def _of_library(value: Any) -> Codec | None:
    for base in type(value).__mro__:
        file = _LIBRARIES.get(base.__module__.partition(".")[0])
        if file is not None:
            codec: Codec | None = import_module(file).codec_of(value)
            return codec
    return None


@cache
def _tags_of(library: str) -> dict[str, Codec]:
    file = _LIBRARIES.get(library)
    if file is None:
        return {}
    return {codec.tag: codec for codec in import_module(file).CODECS}
