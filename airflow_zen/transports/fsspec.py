"""Bytes through fsspec: s3fs, gcsfs, adlfs, and every other URL that fsspec knows."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

from airflow_zen.artifacts.hashing import HASH_PREFIX, FileHash, file_hash
from airflow_zen.errors import AlreadyExists, ArtifactNotFound, SettingsError
from airflow_zen.progress import BytesCallback, ignore_bytes
from airflow_zen.transports.base import (
    DEFAULT_TIMEOUTS,
    ObjectInfo,
    Timeouts,
    key_of_url,
    run_in_parallel,
    upload_files,
)
from airflow_zen.transports.errors import translate_errors

# S3, Google, Azure, and those that behave as a filesystem.
_MODIFIED_FIELDS = ("LastModified", "updated", "last_modified", "mtime", "modified", "created")

_CHUNK_SIZE = 1024 * 1024

# By itself s3fs holds ten parts of 50 MB of each file in memory.
_S3_PART_SIZE = 8 * 1024 * 1024
_S3_OPTIONS = {"default_block_size": _S3_PART_SIZE, "max_concurrency": 4}
_S3_MAX_PARTS = 10_000
# Both s3fs and botocore below it try so often: of what hangs they let go after nine times 30 s.
_S3_MAX_ATTEMPTS = 3


class FsspecTransport:
    """Keep the artifact root behind an fsspec filesystem."""

    scratch_directory: Path | None = None

    def __init__(
        self,
        root: str,
        options: Mapping[str, Any],
        on_bytes: BytesCallback = ignore_bytes,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        self.root = root
        self._timeouts = timeouts
        self._on_bytes = on_bytes
        try:
            self.fs, path = _open_filesystem(root, _with_session(options), timeouts)
        except (ImportError, ValueError) as error:
            raise SettingsError(
                f"[zen] artifact_root {root!r} cannot be opened: {error}. Install the filesystem of its scheme, for "
                "example airflow-provider-zen[s3], [gcs] or [azure]."
            ) from error
        self.base = path.rstrip("/")
        if hasattr(self.fs, "call_s3"):
            self.fs.retries = _S3_MAX_ATTEMPTS

    def read(self, key: str) -> bytes:
        """Fetch with one request."""
        with translate_errors(self.root, key):
            return bytes(self.fs.cat_file(self._path(key)))

    def write(self, key: str, data: bytes) -> None:
        """Store with one request."""
        with translate_errors(self.root):
            self._make_parent(key)
            self.fs.pipe_file(self._path(key), data)

    def create(self, key: str, data: bytes) -> None:
        """Store with one conditional request, where the filesystem knows how."""
        with translate_errors(self.root):
            self._make_parent(key)
            try:
                self.fs.pipe_file(self._path(key), data, mode="create")
            except FileExistsError as error:
                raise AlreadyExists(f"{self.root}/{key} exists.") from error
            except OSError as error:
                if not _is_failed_precondition(error):
                    raise
                raise AlreadyExists(f"{self.root}/{key} exists.") from error

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Fetch with one request."""
        with translate_errors(self.root, key):
            return bytes(self.fs.cat_file(self._path(key), start=start, end=end))

    def size(self, key: str) -> int:
        """Ask for the object's size."""
        with translate_errors(self.root, key):
            return int(self.fs.info(self._path(key))["size"])

    def object_store_options(self) -> None:
        """Give none: what fsspec was told, others do not understand."""

    def stream(self, key: str) -> None:
        """Stream nothing: an open file waits for a request for each block, `get_file` mostly for one in all."""

    def download(self, key: str, path: Path, like: str = HASH_PREFIX) -> str:
        """Fetch into a file, then hash it."""
        with translate_errors(self.root, key):
            self.fs.get_file(self._path(key), str(path), callback=TransferCounter(self._on_bytes).callback)
        return file_hash(path, like)

    def checksum(self, key: str) -> tuple[int, str]:
        """Read through the object block by block."""
        passed, size = FileHash(), 0
        with translate_errors(self.root, key), self.fs.open(self._path(key), "rb") as file:
            while chunk := file.read(_CHUNK_SIZE):
                passed.update(chunk)
                size += len(chunk)
                self._on_bytes(len(chunk))
        return size, passed.text

    def local_path(self, key: str) -> Path | None:
        """Nothing is local."""
        return None

    def publish(self, directory: Path, prefix: str, last: str) -> None:
        """Upload the files in parallel, then the last one."""

        def upload(path: Path, name: str) -> None:
            self._upload(path, f"{prefix}/{name}", ignore_bytes if name == last else self._on_bytes)

        upload_files(directory, last, upload)

    def copy(self, prefix: str, url: str, names: Iterable[str]) -> None:
        """Copy on the server."""
        key = key_of_url(self.root, url)
        with translate_errors(self.root, prefix):
            run_in_parallel(
                lambda name: self.fs.cp_file(self._path(f"{prefix}/{name}"), self._path(f"{key}/{name}")), names
            )

    def exists(self, key: str) -> bool:
        """Ask for the object's size."""
        try:
            self.size(key)
        except ArtifactNotFound:
            return False
        return True

    def list(self, prefix: str) -> Iterator[str]:
        """List recursively."""
        with translate_errors(self.root):
            paths = sorted(self.fs.find(self._path(prefix)))
        yield from (key for key in map(self._key, paths) if key != prefix)

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """List recursively, with what the filesystem says of each."""
        with translate_errors(self.root):
            found = self.fs.find(self._path(prefix), detail=True)
        for path in sorted(found):
            if self._key(path) == prefix:
                continue
            yield ObjectInfo(self._key(path), int(found[path]["size"] or 0), _modified_time(found[path]))

    def first_key(self, prefix: str, after: str = "") -> str | None:
        """Ask S3, Google or Azure for one key; list everything where the filesystem knows no better.

        Azure's client is not told where to start: what comes `after` a key is looked for in pages of 5000.
        """
        if hasattr(self.fs, "call_s3"):
            return self._first_s3_key(prefix, after)
        if self.root.startswith(("gs://", "gcs://")):
            return self._first_google_key(prefix, after)
        if self.root.startswith(("az://", "abfs://", "abfss://")):
            return self._first_azure_key(prefix, after)
        return next((key for key in self.list(prefix) if key > after), None)

    def list_prefixes(self, prefix: str) -> Iterator[str]:
        """List one level."""
        try:
            with translate_errors(self.root, prefix):
                found = self.fs.ls(self._path(prefix), detail=True)
        except ArtifactNotFound:
            return
        yield from sorted(
            entry["name"].rstrip("/").rpartition("/")[2] for entry in found if entry["type"] == "directory"
        )

    def delete(self, keys: Iterable[str]) -> None:
        """Delete one by one, in parallel."""
        with translate_errors(self.root):
            run_in_parallel(self._delete, keys)

    def _first_s3_key(self, prefix: str, after: str) -> str | None:
        bucket, _, path = self._path(f"{prefix}/").partition("/")
        start = {"StartAfter": self._path(after).partition("/")[2]} if after else {}
        with translate_errors(self.root):
            page = self.fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=path, MaxKeys=1, **start)
        return next((self._key(f"{bucket}/{entry['Key']}") for entry in page.get("Contents", ())), None)

    def _first_google_key(self, prefix: str, after: str) -> str | None:
        bucket, _, path = self._path(f"{prefix}/").partition("/")
        # Google begins with the key itself, where S3 begins after it: of two one is wanted.
        start = {"startOffset": self._path(after).partition("/")[2]} if after else {}
        asked = {"prefix": path, "maxResults": 2, **start}
        with translate_errors(self.root):
            page = self.fs.call("GET", "b/{}/o", bucket, json_out=True, **asked)
        keys = (self._key(f"{bucket}/{entry['name']}") for entry in page.get("items", ()))
        return next((key for key in keys if key != after), None)

    def _first_azure_key(self, prefix: str, after: str) -> str | None:
        from fsspec.asyn import sync

        container, _, path = self._path(f"{prefix}/").partition("/")

        async def first_key() -> str | None:
            async with self.fs.service_client.get_container_client(container) as client:
                found = client.list_blobs(name_starts_with=path, results_per_page=None if after else 1)
                async for blob in found:
                    key = self._key(f"{container}/{blob.name}")
                    if key > after:
                        return key
            return None

        with translate_errors(self.root):
            return cast("str | None", sync(self.fs.loop, first_key))

    def _path(self, key: str) -> str:
        return f"{self.base}/{key}"

    def _key(self, path: str) -> str:
        start = len(self.base) + 1
        return path[start:] if self.base.startswith("/") else path.lstrip("/")[start:]

    def _upload(self, path: Path, key: str, on_bytes: BytesCallback) -> None:
        with translate_errors(self.root):
            self._make_parent(key)
            self._put(str(path), self._path(key), TransferCounter(on_bytes), self._part_options(path))

    def _put(self, path: str, remote: str, counter: TransferCounter, parts: Mapping[str, int]) -> None:
        if not inspect.iscoroutinefunction(getattr(self.fs, "_put_file", None)):
            self.fs.put_file(path, remote, callback=counter.callback, **parts)
            return
        from fsspec.asyn import sync

        put = partial(self.fs._put_file, path, remote, callback=counter.callback, **parts)  # noqa: SLF001 - fsspec's own protocol
        sync(self.fs.loop, with_stall_timeout, put, counter, self._timeouts.write)

    def _part_options(self, path: Path) -> dict[str, int]:
        """Cut a file into parts for S3, as small as their greatest number allows."""
        if not hasattr(self.fs, "call_s3"):
            return {}
        return {"chunksize": max(_S3_PART_SIZE, math.ceil(path.stat().st_size / _S3_MAX_PARTS))}

    def _make_parent(self, key: str) -> None:
        # Object stores have no folders to make; asking for one costs s3fs a request for the bucket.
        if not inspect.iscoroutinefunction(getattr(self.fs, "_pipe_file", None)):
            self.fs.makedirs(self._path(key).rsplit("/", 1)[0], exist_ok=True)

    def _delete(self, key: str) -> None:
        try:
            self.fs.rm_file(self._path(key))
        except FileNotFoundError:
            return


def _modified_time(info: Mapping[str, Any]) -> float:
    """Read when an object was written; every filesystem has its own word for it. Unknown is later than anything."""
    told = next((info[word] for word in _MODIFIED_FIELDS if info.get(word)), None)
    if told is None:
        return math.inf
    if isinstance(told, int | float):
        return float(told)
    return (told if isinstance(told, datetime) else datetime.fromisoformat(str(told))).timestamp()


def _open_filesystem(root: str, options: Mapping[str, Any], timeouts: Timeouts) -> tuple[Any, str]:
    import fsspec

    if root.startswith(("s3://", "s3a://")):
        options = {
            **_S3_OPTIONS,
            **options,
            "config_kwargs": _with_timeouts(options.get("config_kwargs") or {}, timeouts),
        }
    fresh = {"use_listings_cache": False, "skip_instance_cache": True, **options}
    if root.startswith(("gs://", "gcs://")) and "endpoint_url" in options:
        # The front door of gcsfs asks by gRPC what kind of bucket it is; elsewhere than at Google it waits minutes for that.
        from gcsfs.core import GCSFileSystem

        return GCSFileSystem(**fresh), GCSFileSystem._strip_protocol(root)  # noqa: SLF001 - fsspec's own protocol
    opened: tuple[Any, str] = fsspec.core.url_to_fs(root, **fresh)
    return opened


def _with_session(options: Mapping[str, Any]) -> dict[str, Any]:
    """Put the session of an identity in its place: s3fs knows only that."""
    translated = dict(options)
    if "aws_credentials" in translated:
        translated["session"] = translated.pop("aws_credentials").aiobotocore_session()
    return translated


def _with_timeouts(config: Mapping[str, Any], timeouts: Timeouts) -> dict[str, Any]:
    """Add to botocore's settings how long it waits and how often it tries; what the connection says goes before."""
    times = {"connect_timeout": timeouts.connect, "read_timeout": timeouts.read}
    return {**times, "retries": {"mode": "standard", "total_max_attempts": _S3_MAX_ATTEMPTS}, **config}


def _is_failed_precondition(error: OSError) -> bool:
    """Tell a refused `If-None-Match` from other errors: Ceph's answer reaches us as `OSError(EINVAL)`."""
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("Error", {}).get("Code") in {"PreconditionFailed", "ConditionalRequestConflict"}


class TransferCounter:
    """Tell `on_bytes` what fsspec's own counter of one file says; `count` is what it said last."""

    def __init__(self, on_bytes: BytesCallback) -> None:
        from fsspec.callbacks import Callback

        self._on_bytes = on_bytes
        self.count = 0
        self.callback = Callback(hooks={"moved": self._on_progress})

    def _on_progress(self, _size: int | None, value: int) -> None:
        count, self.count = value - self.count, value
        self._on_bytes(count)


async def with_stall_timeout(
    transfer: Callable[[], Awaitable[Any]], counter: TransferCounter, stall_timeout: float
) -> None:
    """Do a transfer; raises `TimeoutError` when it does not move for `stall_timeout` seconds.

    aiohttp waits without end for a server that reads no more of what it is sent.
    """
    task = asyncio.ensure_future(transfer())
    previous_count = -1
    while previous_count != counter.count:
        previous_count = counter.count
        await asyncio.wait({task}, timeout=stall_timeout)
        if task.done():
            await task
            return
    task.cancel()
    await asyncio.wait({task}, timeout=1)
    raise TimeoutError(f"nothing of it moved for {stall_timeout:g} s")
