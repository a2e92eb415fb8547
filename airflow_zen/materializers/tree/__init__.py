"""Python's built-in values and the user's records as one typed JSON file; anything else beside it as parts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.catalogue import TYPED_JSON_TYPES
from airflow_zen.materializers.tree.codec import Json
from airflow_zen.materializers.views import View

TYPED_JSON_FILE = "value.json"

_PART_PATH = re.compile(r"parts/[0-9]+")


class TypedJsonMaterializer(Materializer):
    """Save nested built-ins, enums, dataclasses, namedtuples and pydantic models exactly.

    A value inside that is no JSON, such as a DataFrame in a dict or in a dataclass, is saved by its own
    materializer under `parts/<n>/`: the whole is still one artifact.
    """

    types = TYPED_JSON_TYPES
    encoding = "python.json@1"
    inline = True

    def for_value(self, value: Any) -> Materializer:
        """Choose itself, or who writes as one file what is better one."""
        from airflow_zen.materializers.tree.parts import preferred_encoding

        return self.registry.for_encoding(preferred_encoding(value) or self.encoding)

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `value.json`, and the parts it refers to.

        The summary has `shape` for containers, and `parts` as a list of `{"path", "encoding", "type", "shape"}`.
        """
        parts = write_typed_json(self, value, directory, TYPED_JSON_FILE)
        summary: dict[str, Any] = {"shape": _container_shape(value)} if _container_shape(value) else {}
        return {**summary, "parts": parts} if parts else summary

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read `value.json`; classes are looked for in `wanted` first, and parts come as it says of its elements."""
        return read_typed_json(self, directory, TYPED_JSON_FILE, wanted)


class MembersPreview(Materializer):
    """Show what lies inside containers and records; stored by `TypedJsonMaterializer`."""

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the first members that have previews of their own."""
        from airflow_zen.materializers.tree.preview import preview_members

        return preview_members(self.registry, value, summary)


def write_typed_json(materializer: Materializer, value: Any, directory: Path, file_name: str) -> list[dict[str, str]]:
    """Write a value as typed JSON into `file_name`, and give the parts that were saved beside it."""
    text, parts = encode_typed_json(materializer, value, directory)
    (directory / file_name).write_text(text, encoding="utf-8")
    return parts


def read_typed_json(materializer: Materializer, directory: Path, file_name: str, wanted: Any = None) -> Any:
    """Read what `write_typed_json` wrote."""
    return decode_typed_json(materializer, (directory / file_name).read_text(encoding="utf-8"), directory, wanted)


def encode_typed_json(materializer: Materializer, value: Any, directory: Path) -> tuple[str, list[dict[str, str]]]:
    """Give the typed JSON of a value, and the parts that were saved under `directory` on the way."""
    from airflow_zen.materializers.tree.encoder import Encoder, canonical_json
    from airflow_zen.materializers.tree.parts import NestedValues

    parts = NestedValues(materializer.registry, directory)
    return canonical_json(Encoder(parts).encode(value)), parts.saved


def decode_typed_json(materializer: Materializer, text: str, directory: Path | None, wanted: Any = None) -> Any:
    """Give the value of a typed JSON text whose parts lie under `directory`; None where there are none."""
    node = json.loads(text)
    if '"$"' not in text:
        return node
    from airflow_zen.materializers.tree.decoder import Decoder
    from airflow_zen.materializers.tree.part_source import DirectoryReader

    def load_part(part: Mapping[str, Json], declared: Any) -> Any:
        if not _PART_PATH.fullmatch(part["path"]):
            raise ArtifactRefused(f"A part lies at parts/<n> inside its artifact, got {part['path']!r}.")
        if directory is None:
            raise ArtifactRefused(f"An artifact of one file names the part {part['path']!r} beside it.")
        path, encoding, view = directory / part["path"], part["encoding"], View.of(declared)
        if materializer.registry.is_partial_view(encoding, view):
            return materializer.registry.load_view(DirectoryReader(path), encoding, view)
        return materializer.registry.load(path, encoding, declared)

    return Decoder(load_part, wanted).decode(node, wanted)


def _container_shape(value: Any) -> str:
    if isinstance(value, list | tuple | set | frozenset | dict):
        return f"{len(value)} {'item' if len(value) == 1 else 'items'}"
    return ""
