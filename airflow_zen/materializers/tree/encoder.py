"""Values to typed JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.names import type_name
from airflow_zen.materializers.tree.codec import TAG, Codec, Json
from airflow_zen.materializers.tree.codecs import codec_of
from airflow_zen.materializers.tree.parts import NoParts, Parts
from airflow_zen.materializers.tree.records import record_codec

DEEPEST = 100
_CANONICAL = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_LONGEST_DECIMAL_BITS = 4096


class Encoder:
    """Write a value as JSON that brings back exactly its types; refuse what it cannot.

    What is no JSON (a DataFrame inside a dict) goes to `parts`.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._open: dict[int, type] = {}

    def encode(self, value: Any) -> Json:
        """Write one value, and all below it; raises `SaveRefused`."""
        kind = type(value)
        atom = _ATOMS.get(kind)
        if atom is not None:
            return atom(value)
        if id(value) in self._open:
            raise SaveRefused(
                f"A {kind.__qualname__} contains itself ({self._trail()}), which has no end as JSON. Leave "
                "that reference out."
            )
        if len(self._open) >= DEEPEST:
            raise SaveRefused(f"A value is nested more than {DEEPEST} levels deep. Flatten it.")
        self._open[id(value)] = kind
        try:
            return self._composite(value, kind)
        finally:
            del self._open[id(value)]

    def encode_unordered(self, values: Any) -> list[Json]:
        """Write the elements of a set in the order of their JSON text, which no hash seed changes."""
        alone = Encoder(NoParts(self._parts.registry, "a set"))
        alone._open = self._open
        return sorted((alone.encode(value) for value in values), key=canonical)

    def refuse(self, value: Any, remedy: str) -> SaveRefused:
        """Give the error for a value that would not come back exactly; `remedy` is a full sentence."""
        return SaveRefused(f"A value of type {type_name(type(value))} ({self._trail()}) is not stored: {remedy}")

    def _composite(self, value: Any, kind: type) -> Json:
        if self._parts.prefer(value):
            return {TAG: "part", **self._parts.save(value)}
        if kind is list:
            return list(value) if _natural(value) else [self.encode(item) for item in value]
        if kind is dict and _natural_keys(value):
            return {key: self.encode(item) for key, item in value.items()}
        codec = codec_of(value)
        if codec is not None:
            return self._tagged(codec, value)
        if self._parts.take(kind):
            return {TAG: "part", **self._parts.save(value)}
        codec = record_codec(kind)
        if codec is not None:
            return self._tagged(codec, value)
        raise self.refuse(
            value,
            "only its base type is known, and coming back as that would change it. Convert it, register a "
            "materializer for it, or set [zen] allow_pickle = True.",
        )

    def _tagged(self, codec: Codec, value: Any) -> Json:
        return {TAG: codec.tag, **codec.encode(value, self)}

    def _trail(self) -> str:
        return "in " + " → ".join(kind.__qualname__ for kind in self._open.values())


def canonical(node: Json) -> str:
    """Write JSON as the one text that this encoding uses for it."""
    return _CANONICAL.encode(node)


def is_utf8(text: str) -> bool:
    """Tell whether UTF-8 has a text, which lone surrogates are not in."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _constant(value: Json) -> Json:
    return value


def _integer(value: int) -> Json:
    return value if value.bit_length() <= _LONGEST_DECIMAL_BITS else {TAG: "int", "hex": hex(value)}


def _float(value: float) -> Json:
    return value if math.isfinite(value) else {TAG: "float", "value": repr(value)}


def _text(value: str) -> Json:
    return value if is_utf8(value) else {TAG: "str", "utf-8": value.encode("utf-8", "surrogatepass").hex()}


_ATOMS: dict[type, Callable[[Any], Json]] = {
    type(None): _constant,
    bool: _constant,
    int: _integer,
    float: _float,
    str: _text,
}


def _natural(values: list[Any]) -> bool:
    """Tell, in a few passes at C speed, whether a long list is JSON as it stands."""
    kinds = set(map(type, values))
    if len(kinds) != 1:
        return not kinds
    kind = kinds.pop()
    if kind is str:
        return all(map(str.isascii, values))
    if kind is float:
        return all(map(math.isfinite, values))
    return kind is bool or (kind is int and min(values) >= -(1 << 63) and max(values) < 1 << 63)


def _natural_keys(value: dict[Any, Any]) -> bool:
    return TAG not in value and all(type(key) is str and is_utf8(key) for key in value)
