"""Typed JSON back to values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_origin

from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.classes import resolve_class
from airflow_zen.materializers.declared import element_type, strip_annotation
from airflow_zen.materializers.tree.codec import TAG, Json
from airflow_zen.materializers.tree.codecs import codec_for_tag


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
