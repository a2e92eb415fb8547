"""Codecs of the containers that JSON does not have."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_zen.materializers.classes import reference
from airflow_zen.materializers.declared import element_type
from airflow_zen.materializers.tree.codec import Codec, Json

if TYPE_CHECKING:
    from airflow_zen.materializers.tree.decoder import Decoder
    from airflow_zen.materializers.tree.encoder import Encoder


def _encode_items(value: Any, to: Encoder) -> Mapping[str, Json]:
    return {"items": [to.encode(item) for item in value]}


def _encode_set(value: Any, to: Encoder) -> Mapping[str, Json]:
    return {"items": to.encode_unordered(value)}


def _encode_pairs(value: Any, to: Encoder) -> Mapping[str, Json]:
    if getattr(value, "__dict__", None):
        raise to.refuse(value, "it carries attributes of its own. Keep them in a dataclass beside it.")
    return {"pairs": [[to.encode(key), to.encode(item)] for key, item in value.items()]}


def _decode_pairs(node: Mapping[str, Json], of: Decoder) -> list[tuple[Any, Any]]:
    inner = element_type(of.declared)
    return [(of.decode(key), of.decode(item, inner)) for key, item in node["pairs"]]


def _encode_defaultdict(value: defaultdict[Any, Any], to: Encoder) -> Mapping[str, Json]:
    factory = value.default_factory
    if factory is not None and not isinstance(factory, type):
        raise to.refuse(value, f"its factory {factory!r} is no class that could be found again. Convert it to dict.")
    return {"factory": reference(factory) if factory else None, **_encode_pairs(value, to)}


def _decode_defaultdict(node: Mapping[str, Json], of: Decoder) -> defaultdict[Any, Any]:
    factory = of.resolve(node["factory"], "class", lambda _: True) if node["factory"] else None
    return defaultdict(factory, _decode_pairs(node, of))


def _encode_deque(value: deque[Any], to: Encoder) -> Mapping[str, Json]:
    return {"maxlen": value.maxlen, **_encode_items(value, to)}


def _decode_deque(node: Mapping[str, Json], of: Decoder) -> deque[Any]:
    return deque(of.decode(node["items"], of.declared), node["maxlen"])


def _encode_bounds(value: range | slice, to: Encoder) -> Mapping[str, Json]:
    return {"bounds": [to.encode(bound) for bound in (value.start, value.stop, value.step)]}


def _collection(tag: str, build: Callable[[list[Any]], Any], encode: Callable[[Any, Encoder], Any]) -> Codec:
    return Codec(tag, encode, lambda node, of: build(of.decode(node["items"], of.declared)))


def _mapping(tag: str, build: Callable[[list[tuple[Any, Any]]], Any]) -> Codec:
    return Codec(tag, _encode_pairs, lambda node, of: build(_decode_pairs(node, of)))


def _counter(pairs: list[tuple[Any, Any]]) -> Counter[Any]:
    return Counter(dict(pairs))


CODECS: dict[type, Codec] = {
    tuple: _collection("tuple", tuple, _encode_items),
    set: _collection("set", set, _encode_set),
    frozenset: _collection("frozenset", frozenset, _encode_set),
    dict: _mapping("dict", dict),
    OrderedDict: _mapping("ordereddict", OrderedDict),
    Counter: _mapping("counter", _counter),
    defaultdict: Codec("defaultdict", _encode_defaultdict, _decode_defaultdict),
    deque: Codec("deque", _encode_deque, _decode_deque),
    range: Codec("range", _encode_bounds, lambda node, of: range(*of.decode(node["bounds"]))),
    slice: Codec("slice", _encode_bounds, lambda node, of: slice(*of.decode(node["bounds"]))),
}
