"""Where artifacts lie: content-addressed directories under one root."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from airflow_zen.artifacts.hashing import file_hash
from airflow_zen.artifacts.local_cache import LocalCache
from airflow_zen.artifacts.manifest import FILE_NAME, Manifest
from airflow_zen.artifacts.parallel import in_parallel
from airflow_zen.artifacts.ref import ArtifactFile, ArtifactRef, damaged, gone
from airflow_zen.artifacts.root import normalise_root
from airflow_zen.artifacts.transport import Transport
from airflow_zen.errors import ArtifactCorrupt, ArtifactNotFound, ArtifactRefused, SaveRefused

_AT_ONCE = 8
_INLINE_LIMIT = 16 * 1024
_LOOK_BEFORE_UPLOAD = 1024 * 1024


class ArtifactStore:
    """Put directories in, get verified directories back.

    `root` is a path or a URL, `transport` what moves the bytes under it, `local_cache` what keeps the files of a
    remote root on this machine. An artifact lies at `artifacts/<digest[:2]>/<digest>/`; it exists when its
    manifest does, and never changes.
    """

    def __init__(self, root: str, transport: Transport, local_cache: LocalCache | None = None) -> None:
        self.root = normalise_root(root)
        self.transport = transport
        self._local_cache = local_cache if transport.local("") is None else None

    def lend(self) -> Path:
        """Make an empty directory for artifacts to be loaded into; the caller removes it."""
        return self._local_cache.lend() if self._local_cache else Path(tempfile.mkdtemp(prefix="airflow-zen-"))

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Lend an empty directory for a materializer to write into, best followed by `put`."""
        directory = Path(tempfile.mkdtemp(prefix="artifact-", dir=self.transport.scratch))
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

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

        `hashes` are those of files that were hashed while they were written, by their path. `inline` asks that
        small text files live in the manifest, so that the artifact is one object. The directory is consumed.
        Content that is stored already is not sent again.
        """
        if (directory / FILE_NAME).exists():
            raise SaveRefused(f"{encoding} wrote a {FILE_NAME}, which is the store's own. Give that file another name.")
        paths = [path for path in sorted(directory.rglob("*")) if path.is_file()]
        files = tuple(_describe(directory, path, hashes or {}) for path in paths)
        inline = inline and sum(file.size for file in files) <= _INLINE_LIMIT
        texts = {file.path: (directory / file.path).read_bytes().decode() for file in files} if inline else {}
        manifest = Manifest(encoding, type_name, files, texts, libraries, summary)
        address = _address(manifest.digest)
        if manifest.size < _LOOK_BEFORE_UPLOAD or not self._renewed(address, manifest.digest):
            self._commit(directory, address, manifest)
        return manifest.ref(f"{self.root}/{address}", name)

    def describe(self, places: Mapping[str, str]) -> tuple[ArtifactFile, ...]:
        """Hash objects where they lie; `places` are their keys, by the path that each has in an artifact."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = pool.map(self.transport.hashed, places.values())
            return tuple(ArtifactFile(path, size, known) for path, (size, known) in zip(places, found, strict=True))

    def register(self, manifest: Manifest, name: str = "") -> ArtifactRef:
        """Commit a manifest that says where its files lie; content that the store holds itself stays its own."""
        address = _address(manifest.digest)
        known = self._known(address, manifest.digest)
        manifest = known if known and not known.at else manifest
        self.transport.write(f"{address}/{FILE_NAME}", manifest.to_json())
        return manifest.ref(f"{self.root}/{address}", name)

    def get(self, ref: ArtifactRef, into: Path, *, own: bool = False) -> Path:
        """Give a local directory with the artifact's files, every byte verified.

        On a local root that is the artifact itself, read-only, unless `own` asks for a directory with
        nothing but the files, which user code may see; otherwise the files are fetched into the empty
        directory `into`. Raises `ArtifactNotFound`, `ArtifactCorrupt`, and
        `ArtifactRefused` for a ref that points outside the artifact root.
        """
        address = self._own_address(ref)
        manifest = None if ref.files else self.manifest(ref)
        if manifest and manifest.inline:
            return _unpack(manifest, into)
        if manifest and manifest.at:
            return self._gathered(manifest, into, own=own)
        files = manifest.files if manifest else ref.files
        local = self.transport.local(address)
        if local is not None:
            return _linked(_verified_in_place(local, files), files, into) if own else _verified_in_place(local, files)
        in_parallel(lambda file: self._fetch(f"{address}/{file.path}", file, into, own=own), files)
        return into

    @property
    def is_local(self) -> bool:
        """Tell whether files are read where they lie."""
        return self.transport.local("") is not None

    def keeps(self, file: ArtifactFile) -> bool:
        """Tell whether this machine has a file of a remote root already."""
        return self._local_cache is not None and self._local_cache.has(file)

    def would_keep(self, file: ArtifactFile) -> bool:
        """Tell whether this machine keeps a file of a remote root once it was fetched."""
        return self._local_cache is not None and file.size <= self._local_cache.most_bytes

    def key_of(self, ref: ArtifactRef, name: str) -> str:
        """Give the key of an artifact's file; raises `ArtifactRefused` for a ref that points elsewhere."""
        return f"{self._own_address(ref)}/{_inside(name)}"

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """Read an artifact's manifest; one request."""
        return Manifest.from_json(self.transport.read(f"{self._own_address(ref)}/{FILE_NAME}"), ref.digest)

    def missing(self, refs: Iterable[ArtifactRef]) -> list[ArtifactRef]:
        """Name those refs whose artifact is gone, or was never in this store; one request each, in parallel."""
        wanted = list(refs)
        if len(wanted) < 2:
            return [ref for ref in wanted if not self._has(ref)]
        with ThreadPoolExecutor(min(8, len(wanted))) as pool:
            return [ref for ref, there in zip(wanted, pool.map(self._has, wanted), strict=True) if not there]

    def relocate(self, ref: ArtifactRef) -> ArtifactRef:
        """Write the ref's address anew for this store, as a cache shared between roots needs it."""
        return replace(ref, uri=f"{self.root}/{_address(ref.digest)}")

    def _has(self, ref: ArtifactRef) -> bool:
        return self.transport.exists(f"{_address(ref.digest)}/{FILE_NAME}")

    def _own_address(self, ref: ArtifactRef) -> str:
        address = _address(ref.digest)
        if ref.uri != f"{self.root}/{address}":
            raise ArtifactRefused(
                f"Artifact {ref.digest[:12]} lies at {ref.uri!r}, outside the artifact root {self.root!r}. "
                "Use the stack that made it, or set [zen] artifact_root."
            )
        return address

    def _commit(self, directory: Path, address: str, manifest: Manifest) -> None:
        if manifest.inline:
            self.transport.write(f"{address}/{FILE_NAME}", manifest.to_json())
            return
        known = self._known(address, manifest.digest) if self.is_local else None
        if known and known.at:
            self.transport.delete([f"{address}/{FILE_NAME}"])
        (directory / FILE_NAME).write_bytes(manifest.to_json())
        # The manifest goes last: its presence means that the upload finished.
        self.transport.publish(directory, address, last=FILE_NAME)

    def _renewed(self, address: str, digest: str) -> bool:
        """Tell whether content lies in the bucket already; write its manifest again, so that pruning sees it is wanted.

        A local root has nothing to upload, and looks new by itself. What is only registered lies with somebody else.
        """
        known = None if self.is_local else self._known(address, digest)
        if known is None or known.at or not self._has_files(address, known):
            return False
        self.transport.write(f"{address}/{FILE_NAME}", known.to_json())
        return True

    def _has_files(self, address: str, known: Manifest) -> bool:
        """Tell whether the files of an artifact are there, as large as they were; one request."""
        there = {held.key: held.size for held in self.transport.scan(address)}
        return all(there.get(f"{address}/{file.path}") == file.size for file in known.files if not known.inline)

    def _known(self, address: str, digest: str) -> Manifest | None:
        """Read the manifest of content that may be here; None where it is not, or cannot be read."""
        try:
            return Manifest.from_json(self.transport.read(f"{address}/{FILE_NAME}"), digest)
        except (ArtifactNotFound, ArtifactCorrupt, ArtifactRefused):
            return None

    def _gathered(self, manifest: Manifest, into: Path, *, own: bool) -> Path:
        """Show registered files, verified, as an artifact's: linked on a local root, else fetched."""

        def gather(file: ArtifactFile) -> None:
            key = _inside(manifest.at[file.path])
            local = self.transport.local(key)
            try:
                if local is None:
                    self._fetch(key, file, into, own=own)
                else:
                    _shown(local, file, into / _inside(file.path))
            except ArtifactCorrupt as error:
                raise ArtifactCorrupt(
                    f"{self.root}/{key} has changed since it was registered as artifact {manifest.digest[:12]}. Register "
                    "it again, or bring back what it was."
                ) from error

        in_parallel(gather, manifest.files)
        return into

    def _fetch(self, key: str, file: ArtifactFile, into: Path, *, own: bool) -> None:
        def download(path: Path) -> None:
            try:
                arrived = self.transport.download(key, path, file.hash)
            except ArtifactNotFound as error:
                raise gone(f"{self.root}/{key}") from error
            _verify(path, file, arrived, f"{self.root}/{key}")

        path = into / _inside(file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._local_cache:
            self._local_cache.fetch(file, path, download, own=own)
        else:
            download(path)


def _address(digest: str) -> str:
    return f"artifacts/{digest[:2]}/{digest}"


def _describe(directory: Path, path: Path, hashes: Mapping[str, str]) -> ArtifactFile:
    name = path.relative_to(directory).as_posix()
    return ArtifactFile(name, path.stat().st_size, hashes.get(name) or file_hash(path))


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ArtifactRefused(f"An artifact names the file {path!r}, which lies outside it.")
    return path


def _verify(path: Path, file: ArtifactFile, arrived: str = "", place: str = "") -> None:
    """Hold a file to its size and hash; `arrived` is its hash where that is known from its download, `place` its source."""
    if path.stat().st_size != file.size or (arrived or file_hash(path, file.hash)) != file.hash:
        raise damaged(place or path, file)


def _verified_in_place(directory: Path, files: tuple[ArtifactFile, ...]) -> Path:
    for file in files:
        path = directory / _inside(file.path)
        if not path.is_file():
            raise gone(path)
        _verify(path, file)
    return directory


def _shown(path: Path, file: ArtifactFile, target: Path) -> None:
    """Verify a file, and link to it: it is another's, so it is neither copied nor made read-only."""
    if not path.is_file():
        raise gone(path)
    _verify(path, file)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_symlink():
        target.symlink_to(path)


def _linked(directory: Path, files: tuple[ArtifactFile, ...], into: Path) -> Path:
    """Show the files in a directory of their own: what is added to it there does not reach the store."""
    for file in files:
        target = into / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(directory / file.path, target)
        except OSError:
            shutil.copy(directory / file.path, target)
    return into


def _unpack(manifest: Manifest, into: Path) -> Path:
    for file in manifest.files:
        path = into / _inside(file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(manifest.inline[file.path].encode())
        _verify(path, file)
    return into
