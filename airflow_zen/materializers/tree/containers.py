"""Codecs of the containers that JSON does not have."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_zen.materializers.classes import class_reference
from airflow_zen.materializers.declared import element_type
from airflow_zen.materializers.tree.codec import Codec, Json

if TYPE_CHECKING:
    from airflow_zen.materializers.tree.decoder import Decoder
    from airflow_zen.materializers.tree.encoder import Encoder


def _encode_items(value: Any, encoder: Encoder) -> Mapping[str, Json]:
    return {"items": [encoder.encode(item) for item in value]}


def _encode_set(value: Any, encoder: Encoder) -> Mapping[str, Json]:
    return {"items": encoder.encode_unordered(value)}


def _encode_pairs(value: Any, encoder: Encoder) -> Mapping[str, Json]:
    if getattr(value, "__dict__", None):
        raise encoder.unsupported_error(value, "it carries attributes of its own. Keep them in a dataclass beside it.")
    return {"pairs": [[encoder.encode(key), encoder.encode(item)] for key, item in value.items()]}


def _decode_pairs(node: Mapping[str, Json], decoder: Decoder) -> list[tuple[Any, Any]]:
    inner = element_type(decoder.declared)
    return [(decoder.decode(key), decoder.decode(item, inner)) for key, item in node["pairs"]]


def _encode_defaultdict(value: defaultdict[Any, Any], encoder: Encoder) -> Mapping[str, Json]:
    factory = value.default_factory
    if factory is not None and not isinstance(factory, type):
        raise encoder.unsupported_error(
            value, f"its factory {factory!r} is no class that could be found again. Convert it to dict."
        )
    return {"factory": class_reference(factory) if factory else None, **_encode_pairs(value, encoder)}


def _decode_defaultdict(node: Mapping[str, Json], decoder: Decoder) -> defaultdict[Any, Any]:
    factory = decoder.resolve_class(node["factory"], "class", lambda _: True) if node["factory"] else None
    return defaultdict(factory, _decode_pairs(node, decoder))


def _encode_deque(value: deque[Any], encoder: Encoder) -> Mapping[str, Json]:
    return {"maxlen": value.maxlen, **_encode_items(value, encoder)}


def _decode_deque(node: Mapping[str, Json], decoder: Decoder) -> deque[Any]:
    return deque(decoder.decode(node["items"], decoder.declared), node["maxlen"])


def _encode_bounds(value: range | slice, encoder: Encoder) -> Mapping[str, Json]:
    return {"bounds": [encoder.encode(bound) for bound in (value.start, value.stop, value.step)]}


def _collection_codec(tag: str, build: Callable[[list[Any]], Any], encode: Callable[[Any, Encoder], Any]) -> Codec:
    return Codec(tag, encode, lambda node, decoder: build(decoder.decode(node["items"], decoder.declared)))


def _mapping_codec(tag: str, build: Callable[[list[tuple[Any, Any]]], Any]) -> Codec:
    return Codec(tag, _encode_pairs, lambda node, decoder: build(_decode_pairs(node, decoder)))


def _build_counter(pairs: list[tuple[Any, Any]]) -> Counter[Any]:
    return Counter(dict(pairs))


CONTAINER_CODECS: dict[type, Codec] = {
    tuple: _collection_codec("tuple", tuple, _encode_items),
    set: _collection_codec("set", set, _encode_set),
    frozenset: _collection_codec("frozenset", frozenset, _encode_set),
    dict: _mapping_codec("dict", dict),
    OrderedDict: _mapping_codec("ordereddict", OrderedDict),
    Counter: _mapping_codec("counter", _build_counter),
    defaultdict: Codec("defaultdict", _encode_defaultdict, _decode_defaultdict),
    deque: Codec("deque", _encode_deque, _decode_deque),
    range: Codec("range", _encode_bounds, lambda node, decoder: range(*decoder.decode(node["bounds"]))),
    slice: Codec("slice", _encode_bounds, lambda node, decoder: slice(*decoder.decode(node["bounds"]))),
}
