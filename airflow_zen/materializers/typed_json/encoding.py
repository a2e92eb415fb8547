"""Values to typed JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, get_origin

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.annotations import element_type, strip_annotation
from airflow_zen.materializers.typed_json.codec import TAG, Codec, Json
from airflow_zen.materializers.typed_json.codecs import codec_for_tag, codec_for_value
from airflow_zen.materializers.typed_json.nested import InlineOnly, NestedValues
from airflow_zen.materializers.typed_json.records import record_codec
from airflow_zen.type_names import resolve_class, type_name

MAX_DEPTH = 100
_CANONICAL_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_MAX_DECIMAL_BITS = 4096


class Encoder:
    """Write a value as JSON that brings back exactly its types; refuse what it cannot.

    What is no JSON (a DataFrame inside a dict) goes to `parts`.
    """

    def __init__(self, parts: NestedValues) -> None:
        self._parts = parts
        self._ancestors: dict[int, type] = {}

    def encode(self, value: Any) -> Json:
        """Write one value, and all below it; raises `SaveRefused`."""
        kind = type(value)
        encode_scalar = _ENCODE_SCALAR.get(kind)
        if encode_scalar is not None:
            return encode_scalar(value)
        if id(value) in self._ancestors:
            raise SaveRefused(
                f"A {kind.__qualname__} contains itself ({self._ancestor_path()}), which has no end as JSON. Leave "
                "that reference out."
            )
        if len(self._ancestors) >= MAX_DEPTH:
            raise SaveRefused(f"A value is nested more than {MAX_DEPTH} levels deep. Flatten it.")
        self._ancestors[id(value)] = kind
        try:
            return self._encode_composite(value, kind)
        finally:
            del self._ancestors[id(value)]

    def encode_unordered(self, values: Any) -> list[Json]:
        """Write the elements of a set in the order of their JSON text, which no hash seed changes."""
        nested = Encoder(InlineOnly(self._parts.registry, "a set"))
        nested._ancestors = self._ancestors
        return sorted((nested.encode(value) for value in values), key=canonical_json)

    def unsupported_error(self, value: Any, remedy: str) -> SaveRefused:
        """Give the error for a value that would not come back exactly; `remedy` is a full sentence."""
        return SaveRefused(
            f"A value of type {type_name(type(value))} ({self._ancestor_path()}) is not stored: {remedy}"
        )

    def _encode_composite(self, value: Any, kind: type) -> Json:
        if self._parts.is_better_nested(value):
            return {TAG: "part", **self._parts.save(value)}
        if kind is list:
            return list(value) if _is_plain_json(value) else [self.encode(item) for item in value]
        if kind is dict and _has_plain_keys(value):
            return {key: self.encode(item) for key, item in value.items()}
        codec = codec_for_value(value)
        if codec is not None:
            return self._encode_tagged(codec, value)
        if self._parts.is_nested_type(kind):
            return {TAG: "part", **self._parts.save(value)}
        codec = record_codec(kind)
        if codec is not None:
            return self._encode_tagged(codec, value)
        raise self.unsupported_error(
            value,
            "only its base type is known, and coming back as that would change it. Convert it, register a "
            "materializer for it, or set [zen] allow_pickle = True.",
        )

    def _encode_tagged(self, codec: Codec, value: Any) -> Json:
        return {TAG: codec.tag, **codec.encode(value, self)}

    def _ancestor_path(self) -> str:
        return "in " + " → ".join(kind.__qualname__ for kind in self._ancestors.values())


def canonical_json(node: Json) -> str:
    """Write JSON as the one text that this encoding uses for it."""
    return _CANONICAL_ENCODER.encode(node)


def is_utf8(text: str) -> bool:
    """Tell whether UTF-8 has a text, which lone surrogates are not in."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _encode_constant(value: Json) -> Json:
    return value


def _encode_int(value: int) -> Json:
    return value if value.bit_length() <= _MAX_DECIMAL_BITS else {TAG: "int", "hex": hex(value)}


def _encode_float(value: float) -> Json:
    return value if math.isfinite(value) else {TAG: "float", "value": repr(value)}


def _encode_str(value: str) -> Json:
    return value if is_utf8(value) else {TAG: "str", "utf-8": value.encode("utf-8", "surrogatepass").hex()}


_ENCODE_SCALAR: dict[type, Callable[[Any], Json]] = {
    type(None): _encode_constant,
    bool: _encode_constant,
    int: _encode_int,
    float: _encode_float,
    str: _encode_str,
}


def _is_plain_json(values: list[Any]) -> bool:
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


def _has_plain_keys(value: dict[Any, Any]) -> bool:
    return TAG not in value and all(type(key) is str and is_utf8(key) for key in value)


class Decoder:
    """Read what `Encoder` wrote.

    `load_part` gives the value behind a reference to files beside the tree, as what the consumer declared in its
    place; `wanted` is the type the consumer declared, where classes are looked for first. `declared` is, to a codec,
    what the consumer says of the value it reads.
    """

    def __init__(self, load_part: Callable[[Mapping[str, Json], Any], Any], wanted: Any = None) -> None:
        self.declared: Any = None
        self._load_part = load_part
        self._wanted = wanted

    def decode(self, node: Json, declared: Any = None) -> Any:
        """Read one node, and all below it; `declared` is what the consumer says of it."""
        if isinstance(node, list):
            return self._decode_items(node, declared)
        if not isinstance(node, dict):
            return node
        tag = node.get(TAG)
        if tag is None:
            inner = element_type(declared)
            return {key: self.decode(item, inner) for key, item in node.items()}
        if tag == "part":
            return self._load_part(node, strip_annotation(declared))
        outer, self.declared = self.declared, declared
        try:
            return codec_for_tag(tag).decode(node, self)
        finally:
            self.declared = outer

    def _decode_items(self, nodes: list[Json], declared: Any) -> list[Any]:
        if declared is None:
            return list(map(self.decode, nodes))
        if get_origin(strip_annotation(declared)) is tuple:
            return [self.decode(node, element_type(declared, at)) for at, node in enumerate(nodes)]
        inner = element_type(declared)
        return [self.decode(node, inner) for node in nodes]

    def resolve_class(self, reference: str, kind: str, is_kind: Callable[[type], bool]) -> type:
        """Find a class and make sure it is a `kind`, so that an artifact cannot name just any callable."""
        cls = resolve_class(reference, self._wanted)
        if not is_kind(cls):
            raise ArtifactRefused(f"{reference} is not a {kind} here, and the artifact says it is one.")
        return cls
