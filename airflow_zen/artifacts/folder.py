"""The folder of one artifact in the store: manifest, files, marks of prunes and readers; and the previews beside it."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec

from airflow_zen.artifacts.ref import (
    MAX_REF_FILES,
    REPAIR_ADVICE,
    ArtifactFile,
    ArtifactRef,
    content_digest,
    decode_document,
    encode_document,
    new_path,
    verify_in_place,
)
from airflow_zen.errors import ArtifactCorrupt, ZenError
from airflow_zen.json_records import convert_record
from airflow_zen.transports.base import ObjectInfo, Transport, run_in_parallel

log = logging.getLogger("airflow_zen.artifacts")

MANIFEST_FILE_NAME = "manifest.json"
FORMAT_VERSION = 2
# Format 1 had a SHA-256 for each file.
_READABLE_FORMATS = (1, 2)
PRUNE_LOCK_KEY = "prune/turn.json"
_DAMAGE_MARK = ".damaged"
_PRUNE_MARK = ".prune-"
_NOTICES = "prune/notices"
# A prune waits longer, so that a clock that is set back by less does no harm.
_LOOK_SECONDS, _DELETION_DELAY = 10.0, 15.0
_POLL_INTERVAL = 0.5
_KEY = r"artifacts/[0-9a-f]{2}/([0-9a-f]{64})/(.+)"


class Manifest(msgspec.Struct, frozen=True, dict=True):
    """Describe one artifact completely. It is stored last: its presence means that the artifact is complete.

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

    @cached_property
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
            code=tuple(map(str, self.summary.get("code", ()))),
        )

    def write_inline_files(self, into: Path) -> None:
        """Write the files that are stored in the manifest into a directory, and verify them."""
        for file in self.files:
            path = new_path(into, file.path)
            path.write_bytes(self.inline[file.path].encode())
            verify_in_place(path, file)

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
        return encode_document(document)

    @classmethod
    def from_json(cls, text: bytes, digest: str) -> Manifest:
        """Return the manifest of `digest`.

        Raises `ArtifactRefused` for a newer format, `ArtifactCorrupt` when the text is not the manifest of `digest`.
        """

        def decode(document: dict[str, Any]) -> Manifest:
            files = tuple(
                ArtifactFile(f["path"], f["size"], f["hash" if "hash" in f else "sha256"]) for f in document["files"]
            )
            return convert_record({**document, "files": files}, cls)

        manifest = decode_document(
            text, f"The manifest of artifact {digest[:12]}", _READABLE_FORMATS, decode, REPAIR_ADVICE
        )
        if manifest.digest != digest:
            raise ArtifactCorrupt(
                f"The manifest at {digest[:12]} describes another artifact, {manifest.digest[:12]}. {REPAIR_ADVICE}"
            )
        return manifest


class ArtifactFolder(msgspec.Struct, frozen=True):
    """The contents of an artifact's folder; without a manifest it is the rest of an incomplete upload.

    `objects` does not include marks. `is_damaged`: whether a reader found damage, so that the artifact is made again.
    `prunes`: the holders of the prune lock that have begun to delete it.
    """

    digest: str
    objects: tuple[ObjectInfo, ...] = ()
    is_damaged: bool = False
    prunes: tuple[str, ...] = ()

    @classmethod
    def of(cls, digest: str, found: Iterable[ObjectInfo]) -> ArtifactFolder:
        """Return the folder with these objects and marks."""
        objects, damaged, prunes = [], False, []
        for each in found:
            name = each.key.rpartition("/")[2]
            if name.startswith(_PRUNE_MARK):
                prunes.append(name.removeprefix(_PRUNE_MARK))
            elif name == _DAMAGE_MARK:
                damaged = True
            else:
                objects.append(each)
        return cls(digest, tuple(objects), damaged, tuple(prunes))

    @classmethod
    def read(cls, transport: Transport, digest: str) -> ArtifactFolder:
        """List one folder; one request for each 1000 objects."""
        return cls.of(digest, transport.list_objects(artifact_prefix(digest)))

    @property
    def manifest(self) -> str | None:
        """The key of its manifest; None where it has none."""
        key = f"{artifact_prefix(self.digest)}/{MANIFEST_FILE_NAME}"
        return key if any(each.key == key and each.size for each in self.objects) else None

    @property
    def size(self) -> int:
        """Bytes of all its objects."""
        return sum(each.size for each in self.objects)

    @property
    def files_size(self) -> int:
        """Bytes of all its objects but the manifest."""
        return sum(each.size for each in self.objects if each.key != self.manifest)

    @property
    def modified(self) -> float:
        """When the latest of its objects was written, in seconds since the epoch."""
        return max((each.modified for each in self.objects), default=0.0)

    @property
    def prune_marks(self) -> list[str]:
        """The keys of the marks of prunes."""
        return [prune_mark(self.digest, holder) for holder in self.prunes]

    @property
    def marks(self) -> list[str]:
        """The keys of all marks."""
        damage = [f"{artifact_prefix(self.digest)}/{_DAMAGE_MARK}"] if self.is_damaged else []
        return [*damage, *self.prune_marks]

    def has_files(self, sizes: Iterable[tuple[str, int]]) -> bool:
        """Whether it contains a manifest, and files of these paths and sizes in bytes."""
        prefix = artifact_prefix(self.digest)
        found = {each.key: each.size for each in self.objects}
        return self.manifest is not None and all(found.get(f"{prefix}/{path}") == size for path, size in sizes)


def artifact_prefix(digest: str) -> str:
    """Return the folder of an artifact in the store."""
    return f"artifacts/{digest[:2]}/{digest}"


def list_artifact_folders(
    transport: Transport, on_stray: Callable[[str], object] = lambda _: None
) -> Iterator[ArtifactFolder]:
    """Yield the folder of every artifact, in the order of digests, with one page of the listing in memory.

    `on_stray` is called with the key of each object that belongs to no artifact.
    """

    def digest_of(each: ObjectInfo) -> str:
        found = re.fullmatch(_KEY, each.key)
        return found[1] if found else ""

    for digest, found in groupby(transport.list_objects("artifacts"), key=digest_of):
        if digest:
            yield ArtifactFolder.of(digest, found)
        else:
            for each in found:
                on_stray(each.key)


def is_reserved(name: str) -> bool:
    """Whether the store itself gives this name to an object in the folder of an artifact."""
    return name in {MANIFEST_FILE_NAME, _DAMAGE_MARK} or name.startswith(_PRUNE_MARK)


def mark_damaged(transport: Transport, digest: str) -> None:
    """Mark an artifact as damaged: the step that made it does not reuse it, and makes it again."""
    transport.write(f"{artifact_prefix(digest)}/{_DAMAGE_MARK}", b"1")


def prune_mark(digest: str, holder: str) -> str:
    """Return the key of the mark with which a prune announces the deletion of an artifact."""
    return f"{artifact_prefix(digest)}/{_PRUNE_MARK}{holder}"


def is_being_pruned(folder: ArtifactFolder, transport: Transport, clock: Callable[[], float]) -> bool:
    """Whether a prune is deleting an artifact; marks of prunes that were killed are deleted."""
    dead = [holder for holder in folder.prunes if not _holds_lock(holder, transport, clock)]
    transport.delete(prune_mark(folder.digest, holder) for holder in dead)
    return len(dead) < len(folder.prunes)


def _holds_lock(holder: str, transport: Transport, clock: Callable[[], float]) -> bool:
    from airflow_zen.artifacts.leases import is_locked_by

    return is_locked_by(holder, transport, PRUNE_LOCK_KEY, clock)


class PruneNotices:
    """The notices of prunes of a remote root, `prune/notices/<holder of the lock>`, and a writer's knowledge of them.

    A prune begins to delete `_DELETION_DELAY` seconds after it stored its notice, and deletes the notice at its end.
    Content that is stored within `_LOOK_SECONDS` after a look that found no notice is therefore visible to every prune
    that deletes later. `clock` returns seconds since the epoch.
    """

    def __init__(self, transport: Transport, clock: Callable[[], float], sleep: Callable[[float], object]) -> None:
        self._transport, self._clock, self._sleep = transport, clock, sleep
        self._is_local = transport.local_path("") is not None
        self._looked = -math.inf
        self._lock = Lock()

    def look(self) -> None:
        """Check for running prunes with one request, or with none after a recent look.

        Notices of prunes that were killed are deleted. If the store does not answer, the result is unknown.
        """
        with self._lock, suppress(ZenError, OSError):
            asked_at = self._clock()
            if self._is_local or asked_at - self._looked < _LOOK_SECONDS / 2:
                return
            found = self._transport.first_key(_NOTICES)
            if found is None:
                self._looked = asked_at
            elif not _holds_lock(found.rpartition("/")[2], self._transport, self._clock):
                self._transport.delete([found])

    @property
    def are_absent(self) -> bool:
        """Whether no prune deletes what was stored since the last look; False on a local root, where it is unknown."""
        return 0.0 <= self._clock() - self._looked < _LOOK_SECONDS

    def folder_after_prunes(self, digest: str) -> ArtifactFolder:
        """Return the contents of an artifact's folder when no prune is deleting it any more."""
        folder, has_waited = ArtifactFolder.read(self._transport, digest), False
        while folder.prunes:
            if is_being_pruned(folder, self._transport, self._clock):
                if not has_waited:
                    log.info(
                        "A prune is deleting artifact %s: waiting for it, to store the content again.", digest[:12]
                    )
                has_waited = True
                self._sleep(_POLL_INTERVAL)
            folder = ArtifactFolder.read(self._transport, digest)
        return folder

    @contextmanager
    def announce(self, holder: str) -> Iterator[Callable[[], None]]:
        """Announce a prune for the block, and yield a function that waits until it may delete."""
        if self._is_local:
            yield lambda: None
            return
        key = f"{_NOTICES}/{holder}"
        self._transport.write(key, b"1")
        begins = self._clock() + _DELETION_DELAY

        def wait() -> None:
            while (left := begins - self._clock()) > 0:
                self._sleep(left)

        try:
            yield wait
        finally:
            self._transport.delete([key])


class PreviewStore:
    """Store previews at `previews/<digest[:2]>/<digest>/`; unlike artifacts they may be deleted at any time."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, digest: str) -> dict[str, bytes]:
        """Return the previews of an artifact by file name; empty where it has none."""
        return {name: self._transport.read(each.key) for name, each in self.objects(digest).items()}

    def objects(self, digest: str) -> dict[str, ObjectInfo]:
        """Return where the previews of an artifact are, by file name; one listing."""
        prefix = _preview_prefix(digest)
        return {each.key.removeprefix(f"{prefix}/"): each for each in self._transport.list_objects(prefix)}

    def put(self, digest: str, files: Mapping[str, bytes]) -> None:
        """Store the previews of an artifact."""
        prefix = _preview_prefix(digest)
        run_in_parallel(lambda name: self._transport.write(f"{prefix}/{name}", files[name]), files)


def _preview_prefix(digest: str) -> str:
    return f"previews/{digest[:2]}/{digest}"
