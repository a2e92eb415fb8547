"""The store of artifacts and their manifests: content-addressed directories under one root, and previews beside them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.artifacts.hashing import file_hash
from airflow_zen.artifacts.ref import (
    MAX_REF_FILES,
    ArtifactFile,
    ArtifactRef,
    content_digest,
    corrupt_error,
    decode_document,
    missing_error,
)
from airflow_zen.errors import ArtifactCorrupt, ArtifactNotFound, ArtifactRefused, SaveRefused
from airflow_zen.transports.base import Transport, map_in_parallel, normalize_root, run_in_parallel
from airflow_zen.transports.local import link_or_copy

if TYPE_CHECKING:
    from airflow_zen.transports.read_cache import ReadCache

MANIFEST_FILE_NAME = "manifest.json"
FORMAT_VERSION = 2
# Format 1 had a SHA-256 for each file.
_READABLE_FORMATS = (1, 2)
_MAX_INLINE_BYTES = 16 * 1024
_MIN_SIZE_TO_CHECK = 1024 * 1024


class Manifest(msgspec.Struct, frozen=True):
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
            code=tuple(map(str, self.summary.get("code", ()))),
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


class ArtifactStore:
    """Store directories as artifacts, and return them verified.

    `root` is a path or a URL, `transport` moves the bytes under it, `read_cache` keeps files of a remote root on this
    machine. An artifact is stored at `artifacts/<digest[:2]>/<digest>/`; it exists when its manifest does, and never
    changes.
    """

    def __init__(self, root: str, transport: Transport, read_cache: ReadCache | None = None) -> None:
        self.root = normalize_root(root)
        self.transport = transport
        self._read_cache = read_cache if transport.local_path("") is None else None

    def temporary_directory(self) -> Path:
        """Return a new empty directory into which artifacts are loaded; the caller removes it."""
        cache = self._read_cache
        return cache.temporary_directory() if cache else Path(tempfile.mkdtemp(prefix="airflow-zen-"))

    @contextmanager
    def upload_directory(self) -> Iterator[Path]:
        """Yield an empty directory for a materializer to write into, which `put` then commits."""
        parent = self.transport.scratch_directory
        with tempfile.TemporaryDirectory(prefix="artifact-", dir=parent, ignore_cleanup_errors=True) as directory:
            yield Path(directory)

    def put(
        self,
        directory: Path,
        *,
        encoding: str,
        type_name: str,
        libraries: Mapping[str, str],
        summary: Mapping[str, Any],
        hashes: Mapping[str, str] | None = None,
        inline: bool = False,
        name: str = "",
    ) -> ArtifactRef:
        """Commit a directory as an artifact, and return its ref.

        `hashes` are those of files that were hashed while they were written, by path. `inline` asks to store small
        text files in the manifest, so that the artifact is one object. The directory is consumed. Content that is
        stored already is not uploaded again.
        """
        if (directory / MANIFEST_FILE_NAME).exists():
            raise SaveRefused(
                f"{encoding} wrote a {MANIFEST_FILE_NAME}, a name that the store reserves. Give that file another name."
            )
        files, hashes = [], hashes or {}
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):
            relative = path.relative_to(directory).as_posix()
            known = hashes.get(relative) or file_hash(path)
            files.append(ArtifactFile(relative, path.stat().st_size, known))
        inline = inline and sum(file.size for file in files) <= _MAX_INLINE_BYTES
        texts = {file.path: (directory / file.path).read_bytes().decode() for file in files} if inline else {}
        manifest = Manifest(encoding, type_name, tuple(files), texts, libraries, summary)
        prefix = _artifact_prefix(manifest.digest)
        if manifest.size < _MIN_SIZE_TO_CHECK or not self._refresh_existing(prefix, manifest.digest):
            self._commit(directory, prefix, manifest)
        return manifest.ref(f"{self.root}/{prefix}", name)

    def register(self, manifest: Manifest, name: str = "") -> ArtifactRef:
        """Commit a manifest of files in place; content that the store already has keeps its own files."""
        prefix = _artifact_prefix(manifest.digest)
        known = self._existing_manifest(prefix, manifest.digest)
        manifest = known if known and not known.at else manifest
        self.transport.write(f"{prefix}/{MANIFEST_FILE_NAME}", manifest.to_json())
        return manifest.ref(f"{self.root}/{prefix}", name)

    def get(self, ref: ArtifactRef, into: Path, *, private: bool = False) -> Path:
        """Return a local directory with the artifact's files, every byte verified.

        On a local root that is the artifact itself, read-only, unless `private` asks for a directory that user code
        may change; otherwise the files are fetched into the empty directory `into`. Raises `ArtifactNotFound`,
        `ArtifactCorrupt`, and `ArtifactRefused` for a ref that points outside the artifact root.
        """
        prefix = self._checked_prefix(ref)
        manifest = None if ref.files else self.manifest(ref)
        if manifest and manifest.inline:
            return _write_inline_files(manifest, into)
        if manifest and manifest.at:
            return self._get_registered(manifest, into, private=private)
        files = manifest.files if manifest else ref.files
        local = self.transport.local_path(prefix)
        if local is None:
            run_in_parallel(lambda file: self._fetch(f"{prefix}/{file.path}", file, into, private=private), files)
            return into
        for file in files:
            _verify_in_place(local / _checked_path(file.path), file)
            if private:
                # Files that are added in the directory of links do not reach the store.
                link_or_copy(local / file.path, _new_path(into, file.path))
        return into if private else local

    @property
    def is_local(self) -> bool:
        """Whether files are read in place."""
        return self.transport.local_path("") is not None

    def is_cached(self, file: ArtifactFile) -> bool:
        """Whether this machine's read cache has a file of a remote root."""
        return self._read_cache is not None and self._read_cache.has(file)

    def is_cacheable(self, file: ArtifactFile) -> bool:
        """Whether this machine's read cache keeps a file of a remote root once it was fetched."""
        return self._read_cache is not None and file.size <= self._read_cache.max_bytes

    def key_of(self, ref: ArtifactRef, name: str) -> str:
        """Return the key of an artifact's file; raise `ArtifactRefused` for a ref outside the root."""
        return f"{self._checked_prefix(ref)}/{_checked_path(name)}"

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """Return an artifact's manifest; one request.

        Raises `ArtifactRefused` for a ref with another encoding or type: it would choose the code that reads the files.
        """
        text = self.transport.read(f"{self._checked_prefix(ref)}/{MANIFEST_FILE_NAME}")
        manifest = Manifest.from_json(text, ref.digest)
        if (manifest.encoding, manifest.type) != (ref.encoding, ref.type):
            raise ArtifactRefused(
                f"A ref says that artifact {ref.digest[:12]} is a {ref.type} in the encoding {ref.encoding!r}, its manifest "
                f"that it is a {manifest.type} in {manifest.encoding!r}. Use the ref that its step returned."
            )
        return manifest

    def missing(self, refs: Iterable[ArtifactRef]) -> list[ArtifactRef]:
        """Return the refs whose artifact is not in this store; one request each, in parallel."""
        todo = list(refs)
        manifests = [f"{_artifact_prefix(ref.digest)}/{MANIFEST_FILE_NAME}" for ref in todo]
        found = map_in_parallel(self.transport.exists, manifests)
        return [ref for ref, exists in zip(todo, found, strict=True) if not exists]

    def relocate(self, ref: ArtifactRef) -> ArtifactRef:
        """Return the ref with its address in this store, for caches that several roots share."""
        return replace(ref, uri=f"{self.root}/{_artifact_prefix(ref.digest)}")

    def _checked_prefix(self, ref: ArtifactRef) -> str:
        prefix = _artifact_prefix(ref.digest)
        if ref.uri != f"{self.root}/{prefix}":
            raise ArtifactRefused(
                f"Artifact {ref.digest[:12]} is at {ref.uri!r}, outside the artifact root {self.root!r}. "
                "Use the stack that made it, or set [zen] artifact_root."
            )
        return prefix

    def _commit(self, directory: Path, prefix: str, manifest: Manifest) -> None:
        if manifest.inline:
            self.transport.write(f"{prefix}/{MANIFEST_FILE_NAME}", manifest.to_json())
            return
        known = self._existing_manifest(prefix, manifest.digest) if self.is_local else None
        if known and known.at:
            self.transport.delete([f"{prefix}/{MANIFEST_FILE_NAME}"])
        (directory / MANIFEST_FILE_NAME).write_bytes(manifest.to_json())
        # The manifest is last: its presence means that the upload finished.
        self.transport.publish(directory, prefix, last=MANIFEST_FILE_NAME)

    def _refresh_existing(self, prefix: str, digest: str) -> bool:
        """Whether the bucket has the content; its manifest is written again, so that pruning sees it as new.

        A local root has nothing to upload. Registered files are not the store's own.
        """
        known = None if self.is_local else self._existing_manifest(prefix, digest)
        if known is None or known.at:
            return False
        sizes = {each.key: each.size for each in self.transport.list_objects(prefix)}
        if not known.inline and any(sizes.get(f"{prefix}/{file.path}") != file.size for file in known.files):
            return False
        self.transport.write(f"{prefix}/{MANIFEST_FILE_NAME}", known.to_json())
        return True

    def _existing_manifest(self, prefix: str, digest: str) -> Manifest | None:
        """Return the manifest of content; None where it does not exist, or cannot be read."""
        try:
            return Manifest.from_json(self.transport.read(f"{prefix}/{MANIFEST_FILE_NAME}"), digest)
        except (ArtifactNotFound, ArtifactCorrupt, ArtifactRefused):
            return None

    def _get_registered(self, manifest: Manifest, into: Path, *, private: bool) -> Path:
        """Put registered files, verified, into a directory: linked on a local root, else fetched.

        They belong to somebody else, so they are neither copied nor made read-only.
        """

        def get_one(file: ArtifactFile) -> None:
            key = _checked_path(manifest.at[file.path])
            local = self.transport.local_path(key)
            try:
                if local is None:
                    self._fetch(key, file, into, private=private)
                else:
                    _verify_in_place(local, file)
                    with suppress(FileExistsError):
                        _new_path(into, file.path).symlink_to(local)
            except ArtifactCorrupt as error:
                raise ArtifactCorrupt(
                    f"{self.root}/{key} has changed since it was registered as artifact {manifest.digest[:12]}. Register "
                    "it again, or restore its content."
                ) from error

        run_in_parallel(get_one, manifest.files)
        return into

    def _fetch(self, key: str, file: ArtifactFile, into: Path, *, private: bool) -> None:
        def download(path: Path) -> None:
            try:
                arrived = self.transport.download(key, path, file.hash)
            except ArtifactNotFound as error:
                raise missing_error(f"{self.root}/{key}") from error
            _verify_file(path, file, arrived, f"{self.root}/{key}")

        path = _new_path(into, file.path)
        if self._read_cache:
            self._read_cache.fetch(file, path, download, private=private)
        else:
            download(path)


def _artifact_prefix(digest: str) -> str:
    return f"artifacts/{digest[:2]}/{digest}"


def _checked_path(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ArtifactRefused(f"An artifact lists the file {path!r}, which is outside it.")
    return path


def _new_path(into: Path, path: str) -> Path:
    """Return the path of an artifact's file in a directory, and make its folders."""
    target = into / _checked_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _verify_file(path: Path, file: ArtifactFile, arrived: str = "", place: str = "") -> None:
    """Verify a file's size and hash; `arrived` is its hash where the download computed it, `place` its source."""
    if path.stat().st_size != file.size or (arrived or file_hash(path, file.hash)) != file.hash:
        raise corrupt_error(place or path, file)


def _verify_in_place(path: Path, file: ArtifactFile) -> None:
    if not path.is_file():
        raise missing_error(path)
    _verify_file(path, file)


def _write_inline_files(manifest: Manifest, into: Path) -> Path:
    for file in manifest.files:
        path = _new_path(into, file.path)
        path.write_bytes(manifest.inline[file.path].encode())
        _verify_file(path, file)
    return into


class PreviewStore:
    """Store previews at `previews/<digest[:2]>/<digest>/`; unlike artifacts they may be deleted at any time."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, digest: str) -> dict[str, bytes]:
        """Return the previews of an artifact by file name; empty where it has none."""
        prefix = _preview_prefix(digest)
        keys = list(self._transport.list(prefix))
        return {key.removeprefix(f"{prefix}/"): self._transport.read(key) for key in keys}

    def put(self, digest: str, files: Mapping[str, bytes]) -> None:
        """Store the previews of an artifact."""
        prefix = _preview_prefix(digest)
        run_in_parallel(lambda name: self._transport.write(f"{prefix}/{name}", files[name]), files)


def _preview_prefix(digest: str) -> str:
    return f"previews/{digest[:2]}/{digest}"
