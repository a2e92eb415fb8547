"""The manifest: the last file of an artifact, whose presence means that the artifact is complete."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_zen.artifacts.ref import MAX_REF_FILES, ArtifactFile, ArtifactRef, content_digest, decode_document
from airflow_zen.errors import ArtifactCorrupt

MANIFEST_FILE_NAME = "manifest.json"
FORMAT_VERSION = 2
# Format 1 had a SHA-256 for each file.
_READABLE_FORMATS = (1, 2)


class Manifest(msgspec.Struct, frozen=True):
    """Describe one artifact completely.

    `encoding`, `type` and `files` are its identity (`digest`). `inline` holds the text of files that are stored in the
    manifest itself. `libraries` are the versions that wrote it. `summary` holds facts that the materializer collected
    (`shape`, `rows`, `columns`, …) as JSON. `at` holds the keys of files that were registered in place, by path.
    """

    encoding: str
    type: str
    files: tuple[ArtifactFile, ...]
    inline: Mapping[str, str] = msgspec.field(default_factory=dict)
    libraries: Mapping[str, str] = msgspec.field(default_factory=dict)
    summary: Mapping[str, Any] = msgspec.field(default_factory=dict)
    at: Mapping[str, str] = msgspec.field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The identity of the content, 64 hex characters."""
        return content_digest(self.encoding, self.type, self.files)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def ref(self, uri: str, name: str = "") -> ArtifactRef:
        """Return a ref to this artifact at its address."""
        return ArtifactRef(
            digest=self.digest,
            uri=uri,
            encoding=self.encoding,
            type=self.type,
            size=self.size,
            name=name,
            shape=str(self.summary.get("shape", "")),
            files=() if self.inline or self.at or len(self.files) > MAX_REF_FILES else self.files,
            inline=bool(self.inline),
        )

    def to_json(self) -> bytes:
        """Return the manifest as canonical, human-readable JSON."""
        document = {
            "airflow_zen": FORMAT_VERSION,
            "digest": self.digest,
            "size": self.size,
            **msgspec.to_builtins(self),
        }
        if not self.at:
            del document["at"]
        return json.dumps(document, indent=1, sort_keys=True, allow_nan=False).encode()

    @classmethod
    def from_json(cls, text: bytes, digest: str) -> Manifest:
        """Return the manifest of `digest`.

        Raises `ArtifactRefused` for a newer format, `ArtifactCorrupt` when the text is not the manifest of `digest`.
        """

        def decode(document: dict[str, Any]) -> Manifest:
            files = tuple(
                ArtifactFile(f["path"], f["size"], f["hash" if "hash" in f else "sha256"]) for f in document["files"]
            )
            return msgspec.convert({**document, "files": files}, cls)

        manifest = decode_document(text, f"The manifest of artifact {digest[:12]}", _READABLE_FORMATS, decode)
        if manifest.digest != digest:
            raise ArtifactCorrupt(f"The manifest at {digest[:12]} describes another artifact, {manifest.digest[:12]}.")
        return manifest
