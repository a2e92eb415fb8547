"""The small, self-verifying reference to an artifact that travels through XCom."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from airflow_zen.artifacts.hashing import hash_hex, is_file_hash
from airflow_zen.errors import ArtifactCorrupt, ArtifactNotFound, ArtifactRefused

REF_MARKER = "__airflow_zen__"
REF_WIRE_VERSION = 2
# Version 1 had the SHA-256 of files.
_READABLE_WIRE_VERSIONS = (1, 2)

_DIGEST_PATTERN = re.compile(r"[0-9a-f]{64}")
MAX_REF_FILES = 2


class ArtifactFile(msgspec.Struct, frozen=True):
    """Name one file of an artifact: `path` relative to it, `size` in bytes, `hash` as `FileHash` gives it.

    Raises `ArtifactRefused` for a hash or a size that none can be: caches make paths of hashes.
    """

    path: str
    size: int
    hash: str

    def __post_init__(self) -> None:
        """Refuse what a forged ref or manifest may say."""
        if not is_file_hash(self.hash) or self.size < 0:
            raise ArtifactRefused(
                f"An artifact says that its file {self.path!r} has {self.size} bytes and the hash {self.hash!r}, "
                "which no file can have. Run the step that made it again."
            )


def corrupt_error(place: object, file: ArtifactFile) -> ArtifactCorrupt:
    """Say that the bytes at a place are not those of a file."""
    return ArtifactCorrupt(
        f"{place} differs from its digest {hash_hex(file.hash)[:12]}: the stored bytes are damaged. Delete the artifact's "
        "directory and run the step that made it again."
    )


def missing_error(place: object) -> ArtifactNotFound:
    """Say that a file of an artifact is not where it should be."""
    return ArtifactNotFound(
        f"{place} is gone: pruned, or deleted. Run the step that made it again; where that finds the result in the cache, "
        "delete the artifact's directory first."
    )


def content_digest(encoding: str, type_name: str, files: tuple[ArtifactFile, ...]) -> str:
    """Hash what an artifact is: its encoding, its Python type, and every file's path, size and hash.

    64 hex characters. When and by whom it was written is deliberately left out, so that the same
    content has the same digest wherever it is made.
    """
    identity = [encoding, type_name, sorted([file.path, file.size, file.hash] for file in files)]
    return hashlib.sha256(json.dumps(identity, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


class ArtifactRef(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """Refer to one stored artifact.

    `digest` is its identity, `uri` its address for people and other tools, `encoding` the layout of its
    files, `type` the Python type of the value, `size` the bytes of all files. `shape` is a short
    description such as `"336776 rows × 19 columns"`. `files` is filled for artifacts of at most
    `MAX_REF_FILES` files: it lets a reader verify and fetch them without asking for the manifest. `cached` and
    `origin` (`dag/run/task/map_index/try`) say whether, and from which run, a step reused it.
    """

    digest: str
    uri: str
    encoding: str
    type: str
    size: int
    name: str = ""
    shape: str = ""
    files: tuple[ArtifactFile, ...] = ()
    inline: bool = False
    cached: bool = False
    origin: str = ""

    def to_wire(self) -> dict[str, Any]:
        """Write the ref as the marked JSON dict of `docs/format.md`; under 1 KB."""
        wire: dict[str, Any] = {
            REF_MARKER: REF_WIRE_VERSION,
            "name": self.name,
            "type": self.type,
            "shape": self.shape,
            "size": self.size,
            "encoding": self.encoding,
            "digest": self.digest,
            "uri": self.uri,
            "cached": self.cached,
            "origin": self.origin,
        }
        if self.inline:
            wire["inline"] = True
        if self.files:
            wire["files"] = [[file.path, file.size, file.hash] for file in self.files]
        return wire

    @staticmethod
    def is_wire(value: object) -> bool:
        """Tell whether a JSON value is a ref on the wire."""
        return isinstance(value, dict) and REF_MARKER in value

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> ArtifactRef:
        """Read a ref back from its wire form.

        Raises `ArtifactRefused` when it is malformed, was written by a newer format, or carries files
        that do not belong to its digest.
        """
        version = wire.get(REF_MARKER)
        if version not in _READABLE_WIRE_VERSIONS:
            raise ArtifactRefused(
                f"Artifact ref of wire version {version!r} cannot be read: this airflow_zen reads version "
                f"{REF_WIRE_VERSION}. Install the airflow-provider-zen that wrote it, or a newer one."
            )
        try:
            files = tuple(ArtifactFile(str(p), int(s), str(h)) for p, s, h in wire.get("files", ()))
            ref = cls(
                digest=str(wire["digest"]),
                uri=str(wire["uri"]),
                encoding=str(wire["encoding"]),
                type=str(wire["type"]),
                size=int(wire["size"]),
                name=str(wire.get("name", "")),
                shape=str(wire.get("shape", "")),
                files=files,
                inline=bool(wire.get("inline", False)),
                cached=bool(wire.get("cached", False)),
                origin=str(wire.get("origin", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactRefused(f"Malformed artifact ref {dict(wire)!r}: {error}.") from error
        if not _DIGEST_PATTERN.fullmatch(ref.digest):
            raise ArtifactRefused(f"Artifact ref has no sha256 digest, got {ref.digest!r}.")
        if files and content_digest(ref.encoding, ref.type, files) != ref.digest:
            raise ArtifactRefused(f"The files of artifact ref {ref.digest[:12]} do not belong to its digest.")
        return ref

    def with_name(self, name: str) -> ArtifactRef:
        """Copy the ref under another artifact name."""
        return replace(self, name=name)

    def reused_from(self, origin: str) -> ArtifactRef:
        """Copy the ref marked as taken from the cache, made by the step run `origin`."""
        return replace(self, cached=True, origin=origin)
