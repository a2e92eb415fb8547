"""The interface of transports, which move bytes under one root, and the code that they share."""

from __future__ import annotations

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from airflow_zen.artifacts.hashing import HASH_PREFIX, FileHash, file_hash
from airflow_zen.errors import (
    AlreadyExists,
    ArtifactCorrupt,
    ArtifactNotFound,
    SettingsError,
    StoreDenied,
    StoreUnavailable,
    ZenError,
)
from airflow_zen.progress import BytesCallback, ignore_bytes
from airflow_zen.transports.scratch import ScratchFolder

MAX_THREADS, _MAX_READERS = 8, 16
# Large enough to leave Python seldom, small enough to be hashed while it is still in the processor's cache.
CHUNK_SIZE = 1024 * 1024
# Larger files are uploaded in parts.
MAX_SINGLE_PUT = 16 * 1024 * 1024
# Filesystems allow a name 255 bytes; a suffix such as `.json` needs a few.
_MAX_PART_LENGTH, _HASH_LENGTH = 250, 8

T = TypeVar("T")
R = TypeVar("R")


class ObjectInfo(msgspec.Struct, frozen=True):
    """Describe one object: `size` in bytes, `modified` in seconds since the epoch."""

    key: str
    size: int
    modified: float


class Transport(ABC):
    """Move bytes under one root. Keys are relative and `/`-separated. Threads may share a transport.

    A transport belongs to the process that opened it. Reading a key that does not exist raises `ArtifactNotFound`.
    `scratch_directory` is on the root's own filesystem, None for a remote root; `scratch` is this process's folder in it.
    """

    scratch_directory: Path | None = None

    def __init__(self, root: str, on_bytes: BytesCallback = ignore_bytes) -> None:
        self.root = root
        self.scratch = ScratchFolder()
        self._on_bytes = on_bytes

    def read(self, key: str) -> bytes:
        """Return the bytes of a small object; one request."""
        with self._translate_errors(key):
            return self._read(key)

    def write(self, key: str, data: bytes) -> None:
        """Store a small object, or replace it; one request."""
        with self._translate_errors():
            self._write(key, data)

    def create(self, key: str, data: bytes) -> None:
        """Store a small object if the key is free, else raise `AlreadyExists`; atomic where the store supports it."""
        try:
            with self._translate_errors():
                self._create(key, data)
        except FileExistsError as error:
            raise AlreadyExists(f"{self.root}/{key} exists.") from error

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes from `start` up to `end`; one request."""
        with self._translate_errors(key):
            return self._read_range(key, start, end)

    def size(self, key: str) -> int:
        """Return the size of an object in bytes; one request."""
        with self._translate_errors(key):
            return self._size(key)

    def exists(self, key: str) -> bool:
        """Whether an object exists; one request."""
        with suppress(ArtifactNotFound):
            return self.size(key) >= 0
        return False

    def object_store_options(self) -> Mapping[str, str] | None:
        """Return the options with which polars reads objects of this root itself; None where it cannot."""
        return None

    def stream(self, key: str) -> Iterator[memoryview] | None:
        """Yield an object's bytes as they arrive; None where the object should be downloaded instead."""
        return None

    def local_path(self, key: str) -> Path | None:
        """Return the path of a key under a local root; None where the root is remote."""
        return None

    def download(self, key: str, path: Path, like: str = HASH_PREFIX) -> str:
        """Fetch an object into a local file; return the hash of its bytes, of the same kind as the hash `like`."""
        found = FileHash(like)
        with self._translate_errors(key), path.open("wb") as file:
            for chunk in self._chunks(key):
                file.write(chunk)
                found.update(chunk)
                self._on_bytes(len(chunk))
        return found.text

    def checksum(self, key: str, like: str = HASH_PREFIX) -> tuple[int, str]:
        """Read a whole object; return its size in bytes and its hash, of the same kind as the hash `like`."""
        found, size = FileHash(like), 0
        with self._translate_errors(key):
            for chunk in self._chunks(key):
                found.update(chunk)
                size += len(chunk)
                self._on_bytes(len(chunk))
        return size, found.text

    def hash_new(self, path: Path) -> str:
        """Return the hash of a local file that is about to be published."""
        return file_hash(path)

    def publish(self, directory: Path, prefix: str, last: str) -> None:
        """Store all files of `directory` under `prefix`, in parallel, and the one named `last` after all others."""
        sizes = {path: path.stat().st_size for path in sorted(directory.rglob("*")) if path.is_file()}
        large = sum(size > MAX_SINGLE_PUT for size in sizes.values())

        def upload(path: Path) -> None:
            key = f"{prefix}/{path.relative_to(directory).as_posix()}"
            with self._translate_errors():
                self._upload(path, key, sizes[path], large, ignore_bytes if path == final else self._on_bytes)

        final = directory / last
        run_in_parallel(upload, [path for path in sizes if path != final])
        upload(final)

    def copy(self, prefix: str, url: str, names: Iterable[str]) -> None:
        """Copy the objects `names` under `prefix` to `url`, an address under the root, without moving bytes here."""
        target = key_of_url(self.root, url)
        with self._translate_errors(prefix):
            run_in_parallel(lambda name: self._copy(f"{prefix}/{name}", f"{target}/{name}"), names)

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys under the folder `prefix`, in lexicographic order."""
        return (each.key for each in self.list_objects(prefix))

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects under the folder `prefix`, in the order and with the requests of `list`."""
        with self._translate_errors():
            yield from self._list_objects(prefix)

    def first_key(self, prefix: str, after: str = "") -> str | None:
        """Return the first key under the folder `prefix` that comes after the key `after`; None where there is none.

        One request on an object store, however many keys there are.
        """
        with self._translate_errors():
            return self._first_key(prefix, after)

    def list_prefixes(self, prefix: str) -> Sequence[str]:
        """Return the names of the folders directly under the folder `prefix`, in lexicographic order."""
        with suppress(ArtifactNotFound), self._translate_errors(prefix):
            return sorted(self._list_prefixes(prefix))
        return ()

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; a key that does not exist is no error."""
        with self._translate_errors():
            run_in_parallel(self._delete, keys)

    def together(self, *calls: Callable[[], Any]) -> tuple[Any, ...]:
        """Return the results of calls that wait for the store, the first made in this thread; all on a local root."""
        with ThreadPoolExecutor(MAX_THREADS) as pool:
            others = [pool.submit(call) for call in calls[1:]]
            return (*(call() for call in calls[:1]), *(each.result() for each in others))

    def _translate_errors(self, key: str = "") -> AbstractContextManager[None]:
        return translate_errors(self.root, key)

    def _delete(self, key: str) -> None:
        with suppress(FileNotFoundError):
            self._delete_one(key)

    def _upload(self, path: Path, key: str, size: int, large: int, on_bytes: BytesCallback) -> None:
        """Upload a file of `size` bytes, while at most `large` others are uploaded in parts."""
        raise NotImplementedError

    @abstractmethod
    def _read(self, key: str) -> bytes: ...

    @abstractmethod
    def _write(self, key: str, data: bytes) -> None: ...

    @abstractmethod
    def _create(self, key: str, data: bytes) -> None:
        """Raise `FileExistsError` where the key is taken."""

    @abstractmethod
    def _read_range(self, key: str, start: int, end: int) -> bytes: ...

    @abstractmethod
    def _size(self, key: str) -> int: ...

    @abstractmethod
    def _chunks(self, key: str) -> Iterator[Any]:
        """Yield an object's bytes, about `CHUNK_SIZE` at a time."""

    @abstractmethod
    def _copy(self, key: str, target: str) -> None: ...

    @abstractmethod
    def _list_objects(self, prefix: str) -> Iterator[ObjectInfo]: ...

    @abstractmethod
    def _first_key(self, prefix: str, after: str) -> str | None: ...

    @abstractmethod
    def _list_prefixes(self, prefix: str) -> Iterable[str]: ...

    @abstractmethod
    def _delete_one(self, key: str) -> None: ...


def normalize_root(root: str) -> str:
    """Return an artifact root in its one form: an absolute path, or a URL without a trailing slash."""
    if not root.strip():
        raise SettingsError("[zen] artifact_root must be a path or a URL such as 's3://bucket/prefix', got ''.")
    root = root.removeprefix("file://")
    if "://" in root:
        return root.rstrip("/")
    if re.match(r"[a-z0-9]+:/", root):
        raise SettingsError(f"[zen] artifact_root {root!r} is neither a path nor a URL. Write '://' after the scheme.")
    try:
        return os.path.abspath(Path(root).expanduser())
    except RuntimeError as error:
        raise SettingsError(f"[zen] artifact_root {root!r} cannot be found: {error}") from error


def key_of_url(root: str, url: str) -> str:
    """Return the key of an address under the root; raise `SettingsError` for an address elsewhere."""
    url = url.removeprefix("file://")
    if not url.startswith(root + "/") or ".." in url.split("/"):
        raise SettingsError(f"{url!r} is not under the artifact root {root!r}.")
    return url[len(root) + 1 :].strip("/")


def quote_key_part(name: str) -> str:
    """Return a name as one part of a key, percent-quoted; one too long for a filesystem is cut and ends in its hash."""
    part = quote(name, safe="")
    if len(part) > _MAX_PART_LENGTH:
        short = hashlib.sha256(name.encode()).hexdigest()[:_HASH_LENGTH]
        return f"{part[: _MAX_PART_LENGTH - _HASH_LENGTH - 1]}~{short}"
    return part if part.strip(".") else part.replace(".", "%2E")


def run_in_parallel(work: Callable[[T], object], items: Iterable[T]) -> None:
    """Call `work` for every item on a few threads.

    After an error no further call starts; the error is raised when the calls that had started have ended.
    """
    todo = list(items)
    if len(todo) == 1:
        work(todo[0])
        return
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        futures = [pool.submit(work, item) for item in todo]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(cancel_futures=True)
    for each in futures:
        if not each.cancelled():
            each.result()


def map_in_parallel(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield the results of `work` for every item, in order, from several threads."""
    todo = list(items)
    with ThreadPoolExecutor(_MAX_READERS) as pool:
        yield from pool.map(work, todo) if len(todo) > 1 else map(work, todo)


# Codes of S3, Azure and Google, as obstore, botocore, gcsfs and Azure's clients write them. Compiled by the first error.
_WRONG_REGION = (
    r"(?i)PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint|without LOCATION|301 Moved"
)
_NO_SUCH_BUCKET = r"(?i)NoSuchBucket|ContainerNotFound|(bucket|container) does not exist|No such (bucket|container)"
_ACCESS_DENIED = (
    r"(?i)40[13] (Forbidden|Unauthorized)|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken"
    r"|InvalidClientTokenId|AuthenticationFailed|AuthorizationFailure|AuthorizationPermissionMismatch"
    r"|NoAuthenticationInformation|Anonymous caller|Invalid Credentials|Unable to locate credentials|Forbidden: |invalid_grant"
)
# Our own text, which obstore quotes among others.
_PAST_THE_END = r"InvalidRange|416 (Requested )?Range"
_ROLE_ERROR = r"(?s)Role \S+ cannot be assumed: .*? trusts the caller\."
# Keys are in the same text, so these match only where a client writes the status and code of a response.
_STATUS_PREFIX = r"(?:status code: |<Code>|An error occurred \(|ErrorCode:)"
_STORAGE_FULL = _STATUS_PREFIX + r"(507|InsufficientStorage|\w*StorageFull|\w*QuotaExceeded|InsufficientCapacity)"
_SERVER_ERROR = _STATUS_PREFIX + r"(5\d\d(?: [A-Z][A-Za-z]*)*|SlowDown|ServiceUnavailable|InternalError|ServerBusy)"
_TIMEOUT = r"kind: Timeout|(Read|Connect) timeout on endpoint URL|no byte moved"
_UNREACHABLE = (
    r"error sending request|error trying to connect|Could not connect to the endpoint|Cannot connect to host"
    r"|Connection was closed before|Connection (reset|refused|aborted)|Server disconnected|ClientConnectorError"
)
_DUMP = "Debug source:"
# What the operating system said, in the dump of the client's structures.
_SYSTEM_MESSAGE = r'message: "([^"]{1,200})"|error: "([^"]{1,200})"'
_ERROR_CODE = r"<Code>(\w+)</Code>|ErrorCode:(\w+)|\((\w+)\) when calling|expecting '([\w-]+)'|(invalid_grant)"


@contextmanager
def translate_errors(root: str, key: str = "") -> Iterator[None]:
    """Raise `StoreDenied`, `StoreUnavailable` or `ArtifactNotFound` for such an error of a client; pass all others.

    key: of the object that is read. Without one, an error for a missing object means a missing bucket.
    """
    try:
        yield
    except ZenError:
        raise
    except Exception as error:
        translated = _translate(error, root, key)
        if translated is None:
            raise
        # obstore's text contains a dump of its structures, and a traceback shows the cause's text too.
        message = str(error).partition(_DUMP)[0].strip()
        raise translated from (type(error)(message) if _DUMP in str(error) else error)


def _translate(error: Exception, root: str, key: str) -> ZenError | None:
    text = f"{error} {error.__cause__ or ''}"
    code = f" ({next(filter(None, found.groups()))})" if (found := re.search(_ERROR_CODE, text)) else ""
    if role := re.search(_ROLE_ERROR, text):
        return StoreDenied(role[0])
    if re.search(_WRONG_REGION, text):
        return StoreDenied(
            f"The bucket of {root} is in another region{code}. Set region_name of the connection that [zen] "
            "artifact_conn_id names, or AWS_REGION on the worker where it names none, to the bucket's region."
        )
    if re.search(_NO_SUCH_BUCKET, text) or (isinstance(error, FileNotFoundError) and not key):
        return StoreDenied(
            f"The store has no bucket or container as in {root}{code}. Create it, correct [zen] artifact_root, or, "
            "for a store of your own, set its address in the connection that [zen] artifact_conn_id names."
        )
    if isinstance(error, FileNotFoundError):
        return ArtifactNotFound(f"Nothing is stored at {root}/{key}.")
    if isinstance(error, PermissionError) or re.search(_ACCESS_DENIED, text):
        return StoreDenied(
            f"The store refused access to {root}{code}. Check the credentials in the connection that [zen] "
            "artifact_conn_id names, or in the worker's environment where it names none, and that they may read, write, "
            "list and delete under the root."
        )
    if re.search(_PAST_THE_END, text):
        return ArtifactCorrupt(
            f"{root}/{key} is shorter than it was: the stored bytes are damaged. Run the step that made it again."
        )
    return _translate_unavailable(error, text, f"{root}{code}", root)


def _translate_unavailable(error: Exception, text: str, place: str, root: str) -> StoreUnavailable | None:
    if re.search(_STORAGE_FULL, text):
        return StoreUnavailable(
            f"The store has no space left for {place}. Free some, with `airflow zen artifacts prune` for example, or "
            "add more; then run the task again."
        )
    if status := re.search(_SERVER_ERROR, text):
        return StoreUnavailable(
            f"The store of {root} answered every attempt with a server error ({status[1]}). Check whether it is "
            "overloaded, full or restarting; then run the task again."
        )
    if isinstance(error, TimeoutError) or re.search(_TIMEOUT, text):
        return StoreUnavailable(
            f"The store of {root} did not answer in time. Check whether it hangs, its disks are full, or something in between "
            "drops the requests; then run the task again."
        )
    if isinstance(error, ConnectionError) or re.search(_UNREACHABLE, text):
        found = re.search(_SYSTEM_MESSAGE, text)
        reason = (found[1] or found[2]) if found else _first_line(error)
        return StoreUnavailable(
            f"The store of {root} cannot be reached, or drops every connection: {reason}. Check that it runs and that its "
            "address in the connection that [zen] artifact_conn_id names is right; then run the task again."
        )
    is_dump = _DUMP in str(error)
    return StoreUnavailable(f"The store failed a request for {place}: {_first_line(error)}.") if is_dump else None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:300].rstrip(".")
