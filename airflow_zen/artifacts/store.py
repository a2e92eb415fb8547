"""The store of artifacts and their manifests: content-addressed directories under one root."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.artifacts.folder import (
    MANIFEST_FILE_NAME,
    ArtifactFolder,
    Manifest,
    PruneNotices,
    artifact_prefix,
    is_reserved,
    mark_damaged,
)
from airflow_zen.artifacts.hashing import file_hash
from airflow_zen.artifacts.ref import (
    MAX_DOWNLOADS,
    ArtifactFile,
    ArtifactRef,
    checked_path,
    corrupt_error,
    missing_error,
    new_path,
    verify_in_place,
)
from airflow_zen.errors import (
    ArtifactCorrupt,
    ArtifactNotFound,
    ArtifactRefused,
    SaveRefused,
    StoreUnavailable,
    ZenError,
)
from airflow_zen.transports.base import Transport, map_in_parallel, normalize_root, run_in_parallel
from airflow_zen.transports.local import own_copy
from airflow_zen.transports.scratch import ScratchFolder

if TYPE_CHECKING:
    from airflow_zen.transports.read_cache import ReadCache

_MAX_INLINE_BYTES = 16 * 1024
_MIN_SIZE_TO_CHECK = 1024 * 1024
_MAX_COMMITS = 4
# Of larger inputs the bytes take the time, not the request.
_MAX_PREFETCHED_BYTES = 1024 * 1024

log = logging.getLogger("airflow_zen.artifacts")


class ArtifactStore:
    """Store directories as artifacts, and return them verified.

    `root` is a path or a URL, `transport` moves the bytes under it, `read_cache` keeps files of a remote root on this
    machine. `clock` returns seconds since the epoch. An artifact is stored at `artifacts/<digest[:2]>/<digest>/`; it
    exists when its manifest does, and never changes.
    """

    def __init__(
        self,
        root: str,
        transport: Transport,
        read_cache: ReadCache | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.root = normalize_root(root)
        self.transport = transport
        self.prune_notices = PruneNotices(transport, clock, sleep)
        self._known_damaged: set[str] = set()
        self._prefetched: dict[str, bytes] = {}
        self._read_cache = read_cache if transport.local_path("") is None else None
        self._scratch = self._read_cache.scratch if self._read_cache else ScratchFolder()

    def temporary_directory(self) -> Path:
        """Return a new empty directory into which artifacts are loaded; the caller removes it."""
        return self._scratch.new_directory("loaded-")

    @contextmanager
    def upload_directory(self) -> Iterator[Path]:
        """Yield an empty directory for a materializer to write into, which `put` then commits."""
        directory = self.transport.scratch.new_directory("artifact-")
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def remove_abandoned(self) -> None:
        """Remove the temporary files that killed processes of this host left."""
        self._scratch.remove_abandoned()
        self.transport.scratch.remove_abandoned()

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
        files = tuple(list_files(directory, hashes or {}, self.transport))
        for path in {file.path.partition("/")[0] for file in files}:
            if is_reserved(path):
                raise SaveRefused(
                    f"{encoding} wrote a {path}, a name that the store reserves. Give that file another name."
                )
        inline = inline and sum(file.size for file in files) <= _MAX_INLINE_BYTES
        texts = {file.path: (directory / file.path).read_bytes().decode() for file in files} if inline else {}
        manifest = Manifest(encoding, type_name, files, texts, libraries, summary)
        prefix = artifact_prefix(manifest.digest)

        def commit() -> bool:
            if manifest.size >= _MIN_SIZE_TO_CHECK and self._refresh_existing(prefix, manifest.digest):
                return False
            self._commit(directory, prefix, manifest)
            return True

        self._commit_beside_prunes(manifest, commit)
        return manifest.ref(f"{self.root}/{prefix}", name)

    def register(self, manifest: Manifest, name: str = "") -> ArtifactRef:
        """Commit a manifest of files in place; content that the store already has keeps its own files."""
        prefix = artifact_prefix(manifest.digest)
        known = self._existing_manifest(prefix, manifest.digest)
        manifest = known if known and not known.at else manifest

        def commit() -> bool:
            self.transport.write(f"{prefix}/{MANIFEST_FILE_NAME}", manifest.to_json())
            return False

        self._commit_beside_prunes(manifest, commit)
        return manifest.ref(f"{self.root}/{prefix}", name)

    def get(self, ref: ArtifactRef, into: Path, *, private: bool = False) -> Path:
        """Return a local directory with the artifact's files, every byte verified.

        On a local root that is the artifact itself, read-only, unless `private` asks for a directory that user code
        may change; otherwise the files are fetched into the empty directory `into`. Raises `ArtifactNotFound`,
        `ArtifactCorrupt`, and `ArtifactRefused` for a ref that points outside the artifact root.
        """
        manifest = None if ref.files else self.manifest(ref)
        if manifest and manifest.at:
            return self._get_registered(manifest, into, private=private)
        with self._marked_when_damaged(ref):
            return self._get_stored(ref, manifest, into, private=private)

    def prefetch(self, refs: Iterable[ArtifactRef]) -> None:
        """Read into memory what the first requests for small remote artifacts return; errors are raised by `get`."""

        def read(key: str) -> None:
            with suppress(ZenError, OSError):
                self._prefetched[key] = self.transport.read(key)

        run_in_parallel(read, self._keys_to_prefetch(refs))

    def _keys_to_prefetch(self, refs: Iterable[ArtifactRef]) -> Iterator[str]:
        left = 0 if self.is_local else _MAX_PREFETCHED_BYTES
        for ref in {ref.digest: ref for ref in refs}.values():
            left -= ref.size if ref.files else 0
            if left > 0 and ref.uri == f"{self.root}/{artifact_prefix(ref.digest)}":
                names = [file.path for file in ref.files if not self.is_cached(file)]
                yield from (self.key_of(ref, name) for name in (names if ref.files else [MANIFEST_FILE_NAME]))

    def _get_stored(self, ref: ArtifactRef, manifest: Manifest | None, into: Path, *, private: bool) -> Path:
        if manifest and manifest.inline:
            manifest.write_inline_files(into)
            return into
        prefix, files = self._checked_prefix(ref), manifest.files if manifest else ref.files
        local = self.transport.local_path(prefix)
        if local is None:
            run_in_parallel(lambda file: self._fetch(f"{prefix}/{file.path}", file, into, private=private), files)
            return into
        for file in files:
            verify_in_place(local / checked_path(file.path), file)
            if private:
                # Files that are added in this directory do not reach the store.
                own_copy(local / file.path, new_path(into, file.path))
        return into if private else local

    @contextmanager
    def _marked_when_damaged(self, ref: ArtifactRef) -> Iterator[None]:
        """Mark an artifact in which the block finds damage, so that the step that made it makes it again."""
        try:
            yield
        except (ArtifactCorrupt, ArtifactNotFound):
            # A reader that may not write raises its error all the same; an artifact without manifest was deleted.
            with suppress(ZenError, OSError):
                if self.transport.exists(f"{self._checked_prefix(ref)}/{MANIFEST_FILE_NAME}"):
                    mark_damaged(self.transport, ref.digest)
                    self._known_damaged.add(ref.digest)
            raise

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
        return f"{self._checked_prefix(ref)}/{checked_path(name)}"

    def manifest(self, ref: ArtifactRef, read: Callable[[str], bytes] | None = None) -> Manifest:
        """Return an artifact's manifest; one request. `read` returns its object by the key, by default from the store.

        Raises `ArtifactRefused` for a ref with another encoding or type: it would choose the code that reads the files.
        """
        manifest = self._read_manifest(ref, read or self.transport.read)
        if (manifest.encoding, manifest.type) != (ref.encoding, ref.type):
            raise ArtifactRefused(
                f"A ref says that artifact {ref.digest[:12]} is a {ref.type} in the encoding {ref.encoding!r}, its manifest "
                f"that it is a {manifest.type} in {manifest.encoding!r}. Use the ref that its step returned."
            )
        return manifest

    def _read_manifest(self, ref: ArtifactRef, read: Callable[[str], bytes]) -> Manifest:
        key = f"{self._checked_prefix(ref)}/{MANIFEST_FILE_NAME}"
        with suppress(ArtifactCorrupt):
            return Manifest.from_json(self._prefetched.pop(key, b"") or read(key), ref.digest)
        # Perhaps it was damaged on its way.
        with self._marked_when_damaged(ref):
            return Manifest.from_json(self.transport.read(key), ref.digest)

    def missing(self, refs: Iterable[ArtifactRef]) -> list[ArtifactRef]:
        """Return the refs whose artifact is incomplete or damaged in this store; one request each, in parallel."""
        todo = list(refs)
        found = map_in_parallel(self._is_whole, todo)
        return [ref for ref, is_whole in zip(todo, found, strict=True) if not is_whole]

    def relocate(self, ref: ArtifactRef) -> ArtifactRef:
        """Return the ref with its address in this store, for caches that several roots share."""
        return replace(ref, uri=f"{self.root}/{artifact_prefix(ref.digest)}")

    def _is_whole(self, ref: ArtifactRef) -> bool:
        """Whether an artifact's folder has all its files, by its listing, and no reader has found damage."""
        folder = ArtifactFolder.read(self.transport, ref.digest)
        if folder.is_damaged or not folder.has_files((file.path, file.size) for file in ref.files):
            self._known_damaged.add(ref.digest)
            return False
        if ref.files or ref.inline or folder.files_size >= ref.size:
            return True
        # The files are missing, or registered elsewhere.
        manifest = self._existing_manifest(artifact_prefix(ref.digest), ref.digest)
        return manifest is not None and bool(manifest.at) and all(map(self.transport.exists, manifest.at.values()))

    def _checked_prefix(self, ref: ArtifactRef) -> str:
        prefix = artifact_prefix(ref.digest)
        if ref.uri != f"{self.root}/{prefix}":
            raise ArtifactRefused(
                f"Artifact {ref.digest[:12]} is at {ref.uri!r}, outside the artifact root {self.root!r}. "
                "Use the stack that made it, or set [zen] artifact_root."
            )
        return prefix

    def _commit_beside_prunes(self, manifest: Manifest, commit: Callable[[], bool]) -> None:
        """Commit content until all of it is stored and no prune is deleting it; `commit` returns whether it wrote all.

        A prune marks what it deletes, and then checks whether it was stored again. A writer stores, and then checks for
        marks. At least one of them therefore sees the other, and content that is stored while it is deleted is stored
        again. No check is needed while no prune has given notice.
        """
        sizes = [] if manifest.inline or manifest.at else [(file.path, file.size) for file in manifest.files]
        self.prune_notices.look()
        for _ in range(_MAX_COMMITS):
            has_written = commit()
            if self.prune_notices.are_absent and manifest.digest not in self._known_damaged:
                return
            folder = self.prune_notices.folder_after_prunes(manifest.digest)
            if folder.has_files(sizes) and (has_written or not folder.is_damaged):
                if folder.is_damaged:
                    self.transport.delete(folder.marks)
                self._known_damaged.discard(manifest.digest)
                return
        raise StoreUnavailable(
            f"{self.root} does not have all files of artifact {manifest.digest[:12]} after they were stored {_MAX_COMMITS} "
            "times. Check what deletes objects there; then run the task again."
        )

    def _commit(self, directory: Path, prefix: str, manifest: Manifest) -> None:
        if manifest.inline:
            self.transport.write(f"{prefix}/{MANIFEST_FILE_NAME}", manifest.to_json())
            return
        if not directory.is_dir():
            raise ArtifactNotFound(f"{self.root}/{prefix} was deleted while it was stored. Run the task again.")
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
        folder = ArtifactFolder.read(self.transport, digest)
        files = () if known.inline else known.files
        if folder.is_damaged or not folder.has_files((file.path, file.size) for file in files):
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

        They have another owner, so they are neither copied nor made read-only.
        """

        def get_one(file: ArtifactFile) -> None:
            key = checked_path(manifest.at[file.path])
            local = self.transport.local_path(key)
            try:
                if local is None:
                    self._fetch(key, file, into, private=private)
                else:
                    verify_in_place(local, file)
                    with suppress(FileExistsError):
                        new_path(into, file.path).symlink_to(local)
            except ArtifactCorrupt as error:
                raise ArtifactCorrupt(
                    f"{self.root}/{key} has changed since it was registered as artifact {manifest.digest[:12]}. Register "
                    "it again, or restore its content."
                ) from error

        run_in_parallel(get_one, manifest.files)
        return into

    def _fetch(self, key: str, file: ArtifactFile, into: Path, *, private: bool) -> None:
        def download(path: Path) -> None:
            for _ in range(MAX_DOWNLOADS):
                try:
                    arrived = self._download(key, path, file.hash)
                except ArtifactNotFound as error:
                    raise missing_error(f"{self.root}/{key}") from error
                if path.stat().st_size == file.size and arrived == file.hash:
                    return
                log.warning("%s/%s did not arrive with its hash.", self.root, key)
            raise corrupt_error(f"{self.root}/{key}", file)

        path = new_path(into, file.path)
        if self._read_cache:
            self._read_cache.fetch(file, path, download, private=private)
        else:
            download(path)

    def _download(self, key: str, path: Path, like: str) -> str:
        """Fetch an object, or use the prefetched one; return its hash, of the same kind as `like`."""
        if (prefetched := self._prefetched.pop(key, None)) is None:
            return self.transport.download(key, path, like)
        path.write_bytes(prefetched)
        return file_hash(path, like)


def list_files(directory: Path, hashes: Mapping[str, str], transport: Transport) -> Iterator[ArtifactFile]:
    """Yield the files of a directory in the order of their paths; those that have no hash yet are hashed."""
    root = f"{directory}/"
    paths = [f"{folder}/{name}".removeprefix(root) for folder, _, names in os.walk(directory) for name in names]
    for path in sorted(paths, key=lambda path: path.split("/")):
        found = os.stat(root + path)  # noqa: PTH116 - a Path of each file takes longer than the call
        if stat.S_ISREG(found.st_mode):
            yield ArtifactFile(path, found.st_size, hashes.get(path) or transport.hash_new(Path(root + path)))
