"""JSON documents as records, also when several threads read the first ones of a class at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import RLock
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

# msgspec describes a class when it first reads a record of it. Another thread that meets the unfinished description,
# also that of a class inside, crashes the process.
_DESCRIBING = RLock()
_described: set[Any] = set()


def decode_record(text: bytes | str, cls: type[T]) -> T:
    """Return JSON text as a record of a class; raise `msgspec.DecodeError` for text that is none."""
    return _read(cls, lambda: msgspec.json.decode(text, type=cls))


def convert_record(document: Mapping[str, Any], cls: type[T]) -> T:
    """Return a JSON document as a record of a class; raise `msgspec.ValidationError` for one that is none."""
    return _read(cls, lambda: msgspec.convert(document, cls))


def _read(cls: type[T], read: Callable[[], T]) -> T:
    if cls in _described:
        return read()
    with _DESCRIBING:
        found = read()
        _described.add(cls)
        return found
