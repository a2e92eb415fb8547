"""Bytes through fsspec: s3fs, gcsfs, adlfs, and every other URL that fsspec knows."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

from airflow_zen.artifacts.hashing import HASH_PREFIX, file_hash
from airflow_zen.errors import SettingsError
from airflow_zen.progress import BytesCallback, ignore_bytes
from airflow_zen.transports.base import CHUNK_SIZE, ObjectInfo, Transport
from airflow_zen.transports.timeouts import DEFAULT_TIMEOUTS, Timeouts

# S3, Google, Azure, and those that behave as a filesystem.
_MODIFIED_FIELDS = ("LastModified", "updated", "last_modified", "mtime", "modified", "created")

# By default s3fs holds ten parts of 50 MB of each file in memory.
_S3_PART_SIZE = 8 * 1024 * 1024
_S3_OPTIONS = {"default_block_size": _S3_PART_SIZE, "max_concurrency": 4}
_S3_MAX_PARTS = 10_000
# Both s3fs and botocore below it try this often: they give up on a request that hangs after nine times 30 s.
_S3_MAX_ATTEMPTS = 3


class FsspecTransport(Transport):
    """Keep the artifact root behind an fsspec filesystem."""

    def __init__(
        self,
        root: str,
        options: Mapping[str, Any],
        on_bytes: BytesCallback = ignore_bytes,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        super().__init__(root, on_bytes)
        self._timeouts = timeouts
        try:
            self.fs, path = _open_filesystem(root, options, timeouts)
        except (ImportError, ValueError) as error:
            raise SettingsError(
                f"[zen] artifact_root {root!r} cannot be opened: {error}. Install the filesystem of its scheme, for "
                "example airflow-provider-zen[s3], [gcs] or [azure]."
            ) from error
        self.base = path.rstrip("/")
        self._is_s3 = hasattr(self.fs, "call_s3")
        # Object stores have no folders to make; asking for one costs s3fs a request for the bucket.
        self._has_folders = not inspect.iscoroutinefunction(getattr(self.fs, "_pipe_file", None))
        if self._is_s3:
            self.fs.retries = _S3_MAX_ATTEMPTS

    def download(self, key: str, path: Path, like: str = HASH_PREFIX) -> str:
        """Fetch an object into a local file, then hash it."""
        with self._translate_errors(key):
            # An open file waits for a request for each block, `get_file` mostly for one in all.
            self.fs.get_file(self._path(key), str(path), callback=TransferCounter(self._on_bytes).callback)
        return file_hash(path, like)

    def _read(self, key: str) -> bytes:
        return bytes(self.fs.cat_file(self._path(key)))

    def _write(self, key: str, data: bytes) -> None:
        self.fs.pipe_file(self._path_with_parent(key), data)

    def _create(self, key: str, data: bytes) -> None:
        try:
            self.fs.pipe_file(self._path_with_parent(key), data, mode="create")
        except OSError as error:
            # A refused `If-None-Match`: Ceph's answer arrives as `OSError(EINVAL)`.
            response = getattr(error.__cause__, "response", None) or {}
            if response.get("Error", {}).get("Code") not in {"PreconditionFailed", "ConditionalRequestConflict"}:
                raise
            raise FileExistsError(key) from error

    def _read_range(self, key: str, start: int, end: int) -> bytes:
        return bytes(self.fs.cat_file(self._path(key), start=start, end=end))

    def _size(self, key: str) -> int:
        return int(self.fs.info(self._path(key))["size"])

    def _chunks(self, key: str) -> Iterator[bytes]:
        with self.fs.open(self._path(key), "rb") as file:
            while chunk := file.read(CHUNK_SIZE):
                yield chunk

    def _upload(self, path: Path, key: str, size: int, large: int, on_bytes: BytesCallback) -> None:
        counter, target = TransferCounter(on_bytes), self._path_with_parent(key)
        # Parts for S3 as small as their greatest number allows.
        parts = {"chunksize": max(_S3_PART_SIZE, math.ceil(size / _S3_MAX_PARTS))} if self._is_s3 else {}
        if not inspect.iscoroutinefunction(getattr(self.fs, "_put_file", None)):
            self.fs.put_file(str(path), target, callback=counter.callback, **parts)
            return
        from fsspec.asyn import sync

        put = partial(self.fs._put_file, str(path), target, callback=counter.callback, **parts)  # noqa: SLF001 - fsspec's own protocol
        sync(self.fs.loop, _run_with_stall_timeout, put, counter, self._timeouts.write)

    def _copy(self, key: str, target: str) -> None:
        self.fs.cp_file(self._path(key), self._path(target))

    def _list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        found = self.fs.find(self._path(prefix), detail=True)
        # Of a key that is a file and no folder, some filesystems return the file.
        for path in sorted(path for path in found if self._key(path) != prefix):
            yield ObjectInfo(self._key(path), int(found[path]["size"] or 0), _modified_time(found[path]))

    def _first_key(self, prefix: str, after: str) -> str | None:
        bucket, _, path = self._path(f"{prefix}/").partition("/")
        start = self._path(after).partition("/")[2] if after else None
        if self._is_s3:
            arguments = {"StartAfter": start} if start else {}
            page = self.fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=path, MaxKeys=1, **arguments)
            return next((self._key(f"{bucket}/{entry['Key']}") for entry in page.get("Contents", ())), None)
        if self.root.startswith(("gs://", "gcs://")):
            # Google begins with the key itself, where S3 begins after it: of two one is wanted.
            offset = {"startOffset": start} if start else {}
            page = self.fs.call("GET", "b/{}/o", bucket, json_out=True, prefix=path, maxResults=2, **offset)
            keys = (self._key(f"{bucket}/{entry['name']}") for entry in page.get("items", ()))
            return next((key for key in keys if key != after), None)
        if self.root.startswith(("az://", "abfs://", "abfss://")):
            return self._first_azure_key(bucket, path, after)
        return next((key for key in self.list(prefix) if key > after), None)

    def _first_azure_key(self, container: str, path: str, after: str) -> str | None:
        """Search the key after `after` in pages of 5000: Azure's client has no option for the start."""
        from fsspec.asyn import sync

        async def first_key() -> str | None:
            async with self.fs.service_client.get_container_client(container) as client:
                found = client.list_blobs(name_starts_with=path, results_per_page=None if after else 1)
                async for blob in found:
                    key = self._key(f"{container}/{blob.name}")
                    if key > after:
                        return key
            return None

        return cast("str | None", sync(self.fs.loop, first_key))

    def _list_prefixes(self, prefix: str) -> Iterator[str]:
        found = self.fs.ls(self._path(prefix), detail=True)
        return (entry["name"].rstrip("/").rpartition("/")[2] for entry in found if entry["type"] == "directory")

    def _delete_one(self, key: str) -> None:
        self.fs.rm_file(self._path(key))

    def _path(self, key: str) -> str:
        return f"{self.base}/{key}"

    def _path_with_parent(self, key: str) -> str:
        path = self._path(key)
        if self._has_folders:
            self.fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        return path

    def _key(self, path: str) -> str:
        start = len(self.base) + 1
        return path[start:] if self.base.startswith("/") else path.lstrip("/")[start:]


def _open_filesystem(root: str, options: Mapping[str, Any], timeouts: Timeouts) -> tuple[Any, str]:
    import fsspec

    fresh = {"use_listings_cache": False, "skip_instance_cache": True, **options}
    if "aws_credentials" in fresh:
        # s3fs accepts credentials that renew themselves only as a session.
        fresh["session"] = fresh.pop("aws_credentials").aiobotocore_session()
    if root.startswith(("s3://", "s3a://")):
        config = {
            "connect_timeout": timeouts.connect,
            "read_timeout": timeouts.read,
            "retries": {"mode": "standard", "total_max_attempts": _S3_MAX_ATTEMPTS},
        }
        fresh = {**_S3_OPTIONS, **fresh, "config_kwargs": {**config, **(fresh.get("config_kwargs") or {})}}
    if root.startswith(("gs://", "gcs://")) and "endpoint_url" in options:
        # `gcsfs` asks by gRPC what kind of bucket it is; with an endpoint other than Google's it waits minutes for that.
        from gcsfs.core import GCSFileSystem

        return GCSFileSystem(**fresh), GCSFileSystem._strip_protocol(root)  # noqa: SLF001 - fsspec's own protocol
    opened: tuple[Any, str] = fsspec.core.url_to_fs(root, **fresh)
    return opened


def _modified_time(info: Mapping[str, Any]) -> float:
    """Return when an object was written, by the field of each filesystem; an unknown time counts as the latest."""
    found = next((info[name] for name in _MODIFIED_FIELDS if info.get(name)), None)
    if found is None:
        return math.inf
    if isinstance(found, int | float):
        return float(found)
    return (found if isinstance(found, datetime) else datetime.fromisoformat(str(found))).timestamp()


class TransferCounter:
    """Pass the counts of fsspec's callback for one file to `on_bytes`; `count` is the last of them, in bytes."""

    def __init__(self, on_bytes: BytesCallback) -> None:
        from fsspec.callbacks import Callback

        self._on_bytes = on_bytes
        self.count = 0
        self.callback = Callback(hooks={"moved": self._on_progress})

    def _on_progress(self, _size: int | None, value: int) -> None:
        count, self.count = value - self.count, value
        self._on_bytes(count)


async def _run_with_stall_timeout(
    transfer: Callable[[], Awaitable[Any]], counter: TransferCounter, stall_timeout: float
) -> None:
    """Run a transfer; raise `TimeoutError` after `stall_timeout` seconds without progress.

    aiohttp has no timeout for a server that stops reading.
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
    raise TimeoutError(f"no byte moved for {stall_timeout:g} s")
