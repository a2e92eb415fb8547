"""Typed JSON back to values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.classes import resolve
from airflow_zen.materializers.tree.codec import TAG, Json
from airflow_zen.materializers.tree.codecs import codec_tagged


class Decoder:
    """Read what `Encoder` wrote.

    `load_part` gives the value behind a reference to files beside the tree; `wanted` is the type the
    consumer declared, where classes are looked for first.
    """

    def __init__(self, load_part: Callable[[Mapping[str, Json]], Any], wanted: Any = None) -> None:
        self._load_part = load_part
        self._wanted = wanted

    def decode(self, node: Json) -> Any:
        """Read one node, and all below it."""
        if isinstance(node, list):
            return [self.decode(item) for item in node]
        if not isinstance(node, dict):
            return node
        tag = node.get(TAG)
        if tag is None:
            return {key: self.decode(item) for key, item in node.items()}
        if tag == "part":
            return self._load_part(node)
        return codec_tagged(tag).decode(node, self)

    def resolve(self, reference: str, kind: str, belongs: Callable[[type], bool]) -> type:
        """Find a class and make sure it is a `kind`, so that an artifact cannot name just any callable."""
        cls = resolve(reference, self._wanted)
        if not belongs(cls):
            raise ArtifactRefused(f"{reference} is not a {kind} here, and the artifact says it is one.")
        return cls
