"""The manifest: the last file of an artifact, whose presence means that the artifact is whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_zen.artifacts.ref import MAX_REF_FILES, ArtifactFile, ArtifactRef, content_digest
from airflow_zen.errors import ArtifactCorrupt, ArtifactRefused

MANIFEST_FILE_NAME = "manifest.json"
FORMAT_VERSION = 2
# Format 1 had a SHA-256 for each file.
_READABLE_FORMATS = (1, 2)


class Manifest(msgspec.Struct, frozen=True):
    """Describe one artifact completely.

    `encoding`, `type` and `files` are its identity (`digest`). `inline` holds the text of the files
    that live in the manifest itself. `libraries` are the versions that wrote it; `summary` is what
    the materializer found out in passing (`shape`, `rows`, `columns`, …), all JSON. `at` says of files that
    were registered where they lie: keys of the root, by path.
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
        """The content identity, 64 hex characters."""
        return content_digest(self.encoding, self.type, self.files)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def ref(self, uri: str, name: str = "") -> ArtifactRef:
        """Refer to this artifact at its address."""
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
        """Write the manifest as canonical, human-readable JSON."""
        document = {
            "airflow_zen": FORMAT_VERSION,
            "digest": self.digest,
            "encoding": self.encoding,
            "type": self.type,
            "size": self.size,
            "files": [{"path": f.path, "size": f.size, "hash": f.hash} for f in self.files],
            "inline": dict(self.inline),
            "libraries": dict(self.libraries),
            "summary": dict(self.summary),
            **({"at": dict(self.at)} if self.at else {}),
        }
        return json.dumps(document, indent=1, sort_keys=True, allow_nan=False).encode()

    @classmethod
    def from_json(cls, text: bytes, digest: str) -> Manifest:
        """Read a manifest and hold it against the digest it was asked for.

        Raises `ArtifactRefused` for a newer format, `ArtifactCorrupt` when it is not the manifest of
        `digest`.
        """
        try:
            document = json.loads(text)
            if document["airflow_zen"] not in _READABLE_FORMATS:
                raise ArtifactRefused(
                    f"Artifact {digest[:12]} has manifest format {document['airflow_zen']!r}; this airflow_zen reads "
                    f"{FORMAT_VERSION}. Install a newer airflow-provider-zen."
                )
            manifest = cls(
                encoding=document["encoding"],
                type=document["type"],
                files=tuple(
                    ArtifactFile(f["path"], f["size"], f["hash" if "hash" in f else "sha256"])
                    for f in document["files"]
                ),
                inline=document["inline"],
                libraries=document["libraries"],
                summary=document["summary"],
                at=document.get("at", {}),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ArtifactRefused):
                raise
            raise ArtifactCorrupt(f"The manifest of artifact {digest[:12]} is not readable: {error}.") from error
        if manifest.digest != digest:
            raise ArtifactCorrupt(f"The manifest at {digest[:12]} describes another artifact, {manifest.digest[:12]}.")
        return manifest
