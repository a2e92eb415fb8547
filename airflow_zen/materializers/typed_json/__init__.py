"""Python's built-in values and the user's records as one typed JSON file; anything else beside it as parts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.artifacts.hashing import HashedFile
from airflow_zen.errors import ArtifactRefused
from airflow_zen.markup import format_count
from airflow_zen.materializers.annotations import View
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.catalog import TYPED_JSON_TYPES

if TYPE_CHECKING:
    from airflow_zen.materializers.registry import MaterializerRegistry
    from airflow_zen.materializers.typed_json.codec import Json

TYPED_JSON_FILE = "value.json"

_PART_PATH = re.compile(r"parts/[0-9]+")


class TypedJsonMaterializer(Materializer):
    """Save nested built-ins, enums, dataclasses, namedtuples and pydantic models exactly.

    A value inside that is not JSON, such as a DataFrame in a dict or in a dataclass, is saved by its own
    materializer under `parts/<n>/`: the whole is still one artifact.
    """

    types = TYPED_JSON_TYPES
    encoding = "python.json@1"
    inline = True

    def for_value(self, value: Any) -> Materializer:
        """Return itself, or the materializer that writes large bytes or a dict of tensors as one file."""
        from airflow_zen.materializers.typed_json.encoding import preferred_encoding

        return self.registry.for_encoding(preferred_encoding(value) or self.encoding)

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `value.json`, and the parts it refers to.

        The summary has `shape` for containers, and `parts` as a list of `{"path", "encoding", "type", "shape"}`.
        """
        parts = write_typed_json(self, value, directory, TYPED_JSON_FILE)
        if not isinstance(value, list | tuple | set | frozenset | dict):
            return parts
        return {"shape": format_count(len(value), "item"), **parts}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read `value.json`; `wanted` is where classes are looked up first, and the type of the parts."""
        return read_typed_json(self, directory, TYPED_JSON_FILE, wanted)


def write_typed_json(materializer: Materializer, value: Any, directory: Path, file_name: str) -> Mapping[str, Any]:
    """Write a value as typed JSON into `file_name`.

    Return `hashes` of the summary, and `parts` if some were saved beside it.
    """
    text, facts = encode_typed_json(materializer, value, directory)
    with HashedFile(directory / file_name) as file:
        file.write(text)
    return {**facts, "hashes": {**facts.get("hashes", {}), file_name: file.hash}}


def read_typed_json(materializer: Materializer, directory: Path, file_name: str, wanted: Any = None) -> Any:
    """Read what `write_typed_json` wrote."""
    return decode_typed_json(materializer, (directory / file_name).read_text(encoding="utf-8"), directory, wanted)


def encode_typed_json(materializer: Materializer, value: Any, directory: Path) -> tuple[bytes, Mapping[str, Any]]:
    """Return the typed JSON of a value as UTF-8, and `parts` and `hashes` of what was saved under `directory` on the way."""
    from airflow_zen.materializers.typed_json.encoding import Encoder, NestedValues, canonical_json, plain_json

    if (text := plain_json(value)) is not None:
        return text, {}
    parts = NestedValues(materializer.registry, directory)
    text = canonical_json(Encoder(parts).encode(value)).encode()
    return text, {"parts": parts.saved, "hashes": parts.hashes} if parts.saved else {}


def decode_typed_json(materializer: Materializer, text: str, directory: Path | None, wanted: Any = None) -> Any:
    """Return the value of a typed JSON text whose parts are under `directory`; None if it may have no parts."""
    node = json.loads(text)
    if '"$"' not in text:
        return node
    from airflow_zen.materializers.typed_json.encoding import Decoder

    return Decoder(part_loader(materializer.registry, directory), wanted).decode(node, wanted)


def part_loader(registry: MaterializerRegistry, directory: Path | None) -> Callable[[Mapping[str, Json], Any], Any]:
    """Return the function that loads the parts under a directory; None if there may be none."""
    from airflow_zen.materializers.typed_json.encoding import DirectoryReader

    def load_part(part: Mapping[str, Json], declared: Any) -> Any:
        if not _PART_PATH.fullmatch(part["path"]):
            raise ArtifactRefused(f"A part is stored at parts/<n> inside its artifact, got {part['path']!r}.")
        if directory is None:
            raise ArtifactRefused(f"An artifact of one file names the part {part['path']!r} beside it.")
        path, encoding, view = directory / part["path"], part["encoding"], View.of(declared)
        if registry.is_partial_view(encoding, view):
            return registry.load_view(DirectoryReader(path), encoding, view)
        return registry.load(path, encoding, declared)

    return load_part
