"""Find the codec of a value or of a tag; those of optional libraries are imported when one appears."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import MaterializerNotFound
from airflow_zen.materializers.typed_json.builtins import (
    CONTAINER_CODECS,
    JSON_EXCEPTION_CODECS,
    SCALAR_CODECS,
    TIME_CODECS,
)
from airflow_zen.materializers.typed_json.records import RECORD_CODECS

if TYPE_CHECKING:
    from airflow_zen.materializers.typed_json.codec import Codec

_PACKAGE = "airflow_zen.materializers"
_MODULE_OF_LIBRARY = {
    "numpy": f"{_PACKAGE}.numpy.scalars",
    "pandas": f"{_PACKAGE}.pandas.scalars",
    "pendulum": f"{_PACKAGE}.typed_json.pendulum",
}
_CODEC_BY_TYPE: dict[type, Codec] = {**SCALAR_CODECS, **TIME_CODECS, **CONTAINER_CODECS}
_CODEC_BY_TAG = {codec.tag: codec for codec in (*JSON_EXCEPTION_CODECS, *_CODEC_BY_TYPE.values(), *RECORD_CODECS)}


def codec_for_value(value: Any) -> Codec | None:
    """Find who writes a built-in or a library's scalar; None for every other value."""
    return _CODEC_BY_TYPE.get(type(value)) or _library_codec(value)


def codec_for_tag(tag: str) -> Codec:
    """Find who reads a tag, such as `tuple` or `numpy.scalar`; raises `MaterializerNotFound`."""
    known = _CODEC_BY_TAG.get(tag) or _library_codecs_by_tag(tag.partition(".")[0]).get(tag)
    if known is None:
        raise MaterializerNotFound(
            f"python.json@1 has a value tagged {tag!r}, which this airflow_zen does not read. Install a newer one."
        )
    return known


def _library_codec(value: Any) -> Codec | None:
    for base in type(value).__mro__:
        file = _MODULE_OF_LIBRARY.get(base.__module__.partition(".")[0])
        if file is not None:
            codec: Codec | None = import_module(file).library_codec(value)
            return codec
    return None


@cache
def _library_codecs_by_tag(library: str) -> dict[str, Codec]:
    file = _MODULE_OF_LIBRARY.get(library)
    if file is None:
        return {}
    return {codec.tag: codec for codec in import_module(file).CODECS}
