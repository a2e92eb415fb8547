"""Bytes through obstore: S3 and Azure at the lowest latency."""

from __future__ import annotations

import base64
import importlib.util
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow_zen.errors import ZenError
from airflow_zen.progress import BytesCallback, ignore_bytes
from airflow_zen.transports.base import (
    CHUNK_SIZE,
    MAX_SINGLE_PUT,
    MAX_THREADS,
    ObjectInfo,
    Transport,
    run_in_parallel,
)
from airflow_zen.transports.credentials import AwsCredentials
from airflow_zen.transports.local import ProgressFile
from airflow_zen.transports.timeouts import DEFAULT_TIMEOUTS, Timeouts

# The least that S3 takes, and more for files that would have more parts than it allows. Measured with 138 MB on Ceph:
# parts of 5 MiB cost 0.15 s of processor time, of 8 MiB 0.23 s, because each is read into memory that is new to the process.
_PART_SIZE = 5 * 1024 * 1024
_MAX_PARTS = 10_000
# Parts that are sent at once, of all files of an artifact together: each is in memory until it has arrived.
_MAX_CONCURRENT_PARTS = 12
_MIN_CONCURRENT_PARTS = 2

# fsspec's names, those of nested dicts after a dot.
_S3_NAMES = {
    "key": "access_key_id",
    "username": "access_key_id",
    "secret": "secret_access_key",
    "password": "secret_access_key",
    "token": "token",
    "endpoint_url": "endpoint",
    "client_kwargs.endpoint_url": "endpoint",
    "client_kwargs.region_name": "region",
    "s3_additional_kwargs.ServerSideEncryption": "server_side_encryption",
    "s3_additional_kwargs.SSEKMSKeyId": "sse_kms_key_id",
    "s3_additional_kwargs.BucketKeyEnabled": "sse_bucket_key_enabled",
}
# What is translated elsewhere, or what obstore does anyway: no trailing checksums, and AES256 for a customer's key.
_S3_IGNORED = {
    "profile",
    "aws_credentials",
    "config_kwargs.request_checksum_calculation",
    "config_kwargs.response_checksum_validation",
    "s3_additional_kwargs.SSECustomerAlgorithm",
}
_NESTED = {"client_kwargs", "config_kwargs", "s3", "s3_additional_kwargs"}
_AZURE_NAMES = {"account_name", "account_key", "sas_token", "endpoint"}
_AZURE_CONNECTION_STRING_NAMES = {
    "AccountName": "account_name",
    "AccountKey": "account_key",
    "SharedAccessSignature": "sas_token",
    "BlobEndpoint": "endpoint",
    "DefaultEndpointsProtocol": "protocol",
    "EndpointSuffix": "suffix",
}
# Sources of credentials that botocore and obstore read alike; files such as ~/.aws only botocore reads.
_S3_CREDENTIALS = {"AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"}
# A request as a whole may take this long, in seconds: what limits it is the wait for its next bytes.
_NO_TIMEOUT = 7 * 24 * 3600.0

# Whether obstore's threads run in this process, and whether they ran in the process from which it was forked.
_thread_state = {"running": False, "lost": False}


@dataclass(frozen=True)
class ObstoreSettings:
    """Arguments of `obstore.store.from_url`.

    credentials: a provider of credentials that expire; None if `config` has the credentials.
    """

    config: dict[str, Any] = field(default_factory=dict, repr=False)
    client: dict[str, Any] = field(default_factory=dict)
    credentials: AwsCredentials | None = None


class ObstoreTransport(Transport):
    """Keep the artifact root in a bucket that obstore opens."""

    def __init__(
        self,
        root: str,
        settings: ObstoreSettings,
        on_bytes: BytesCallback = ignore_bytes,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        import obstore
        import obstore.store

        _thread_state["running"] = True
        super().__init__(root, on_bytes)
        self._settings = settings
        self._obstore: Any = obstore
        self._process_id = os.getpid()
        self._credential_provider = settings.credentials.obstore_provider() if settings.credentials else None
        self._timeouts = timeouts
        self._opened_store = self._open_store(timeouts.read)
        self._opened_upload_store: Any = None

    def object_store_options(self) -> Mapping[str, str] | None:
        """Return the settings of an S3 root: polars is built on the same client."""
        settings = self._settings
        if not self.root.startswith("s3://") or settings.credentials or set(settings.client) - {"allow_http"}:
            return None
        options = {f"aws_{name}": str(value) for name, value in settings.config.items()}
        return options | {f"aws_{name}": str(value).lower() for name, value in settings.client.items()}

    def stream(self, key: str) -> Iterator[memoryview]:
        """Yield the bytes that one request returns."""
        with self._translate_errors(key):
            for chunk in self._chunks(key):
                yield memoryview(chunk)
                self._on_bytes(len(chunk))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects in batches."""
        todo = [*keys]
        with self._translate_errors():
            try:
                self._obstore.delete(self._store, todo)
            except FileNotFoundError:
                # Azure's batch fails for a key that does not exist, and may leave the rest of the list.
                run_in_parallel(self._delete, todo)

    @property
    def _store(self) -> Any:
        if os.getpid() != self._process_id:
            raise ZenError("An artifact store opened before a fork cannot be used after it; open a new Stack.")
        return self._opened_store

    @property
    def _upload_store(self) -> Any:
        """Return the store for slow requests, which is opened at its first use, because that takes 10 ms."""
        if self._store and self._opened_upload_store is None:
            self._opened_upload_store = self._open_store(self._timeouts.write)
        return self._opened_upload_store

    def _open_store(self, read: float) -> Any:
        # A response may take as long as its bytes keep arriving; by default obstore ends every request after 30 s.
        limits = {"connect_timeout": self._timeouts.connect, "read_timeout": read, "timeout": _NO_TIMEOUT}
        return self._obstore.store.from_url(
            self.root,
            config=self._settings.config,
            client_options={name: timedelta(seconds=limit) for name, limit in limits.items()} | self._settings.client,
            retry_config={"retry_timeout": timedelta(seconds=self._timeouts.retry)},
            credential_provider=self._credential_provider,
        )

    def _read(self, key: str) -> bytes:
        return bytes(self._obstore.get(self._store, key).bytes())

    def _write(self, key: str, data: bytes) -> None:
        self._obstore.put(self._store, key, data, use_multipart=False)

    def _create(self, key: str, data: bytes) -> None:
        try:
            self._obstore.put(self._store, key, data, mode="create", use_multipart=False)
        except self._obstore.exceptions.AlreadyExistsError as error:
            raise FileExistsError(key) from error

    def _read_range(self, key: str, start: int, end: int) -> bytes:
        return bytes(self._obstore.get_range(self._store, key, start=start, end=end))

    def _size(self, key: str) -> int:
        return int(self._obstore.head(self._store, key)["size"])

    def _chunks(self, key: str) -> Iterator[Any]:
        return iter(self._obstore.get(self._store, key).stream(min_chunk_size=CHUNK_SIZE))

    def _upload(self, path: Path, key: str, size: int, large: int, on_bytes: BytesCallback) -> None:
        part = max(_PART_SIZE, math.ceil(size / _MAX_PARTS))
        parts = max(_MIN_CONCURRENT_PARTS, _MAX_CONCURRENT_PARTS // max(1, min(large, MAX_THREADS)))
        options = {
            "use_multipart": size > MAX_SINGLE_PUT,
            "chunk_size": part,
            "max_concurrency": max(_MIN_CONCURRENT_PARTS, parts * _PART_SIZE // part),
        }
        store = self._upload_store if size > CHUNK_SIZE else self._store
        if on_bytes is ignore_bytes:
            self._obstore.put(store, key, path, **options)
            return
        # What was read is ahead of what has arrived, by the parts that are being sent.
        with ProgressFile(path, on_bytes) as file:
            self._obstore.put(store, key, file, **options)

    def _copy(self, key: str, target: str) -> None:
        self._obstore.copy(self._upload_store, key, target)

    def _list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        for page in self._obstore.list(self._store, prefix):
            for entry in page:
                yield ObjectInfo(entry["path"], int(entry["size"]), entry["last_modified"].timestamp())

    def _first_key(self, prefix: str, after: str) -> str | None:
        pages = self._obstore.list(self._store, prefix, offset=after or None, chunk_size=1)
        # Azurite ignores where a listing is to start.
        return next((str(entry["path"]) for page in pages for entry in page if entry["path"] > after), None)

    def _list_prefixes(self, prefix: str) -> Iterator[str]:
        found = self._obstore.list_with_delimiter(self._store, prefix)["common_prefixes"]
        return (path.rstrip("/").rpartition("/")[2] for path in found)

    def _delete_one(self, key: str) -> None:
        self._obstore.delete(self._store, key)


def to_obstore_settings(
    scheme: str, root: str, options: Mapping[str, Any], environment: Mapping[str, str]
) -> ObstoreSettings | None:
    """Return obstore's settings for `options`; None when fsspec must be used.

    That is when obstore is not installed, when it does not have an option or a source of credentials, or when this
    process was forked from one that used it: obstore's threads do not survive a fork, and the next call would hang.
    """
    if _thread_state["lost"] or importlib.util.find_spec("obstore") is None:
        return None
    if scheme in {"s3", "s3a"}:
        return _s3_settings(root, options, environment)
    return _azure_settings(_parse_connection_string(options))


def _s3_settings(root: str, options: Mapping[str, Any], environment: Mapping[str, str]) -> ObstoreSettings | None:
    settings = _translate_s3_options(options)
    if settings is None or not _has_credentials(settings, environment):
        return None
    config, client = settings.config, settings.client
    config.setdefault("endpoint", environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None)
    config.setdefault("region", environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1")
    scheme, _, host = str(config.get("endpoint") or "").partition("://")
    bucket = root.partition("://")[2].partition("/")[0]
    if host and config.get("virtual_hosted_style_request") and not host.startswith(f"{bucket}."):
        # obstore expects the bucket in the endpoint's host.
        config["endpoint"] = f"{scheme}://{bucket}.{host}"
    if scheme == "http":
        client["allow_http"] = True
    if not client.keys() & {"root_certificate", "allow_invalid_certificates"} and environment.get("AWS_CA_BUNDLE"):
        client["root_certificate"] = Path(environment["AWS_CA_BUNDLE"]).read_bytes()
    return replace(settings, config={name: value for name, value in config.items() if value is not None})


def _translate_s3_options(options: Mapping[str, Any]) -> ObstoreSettings | None:
    """Translate s3fs's options; None for an option that obstore does not have."""
    # Every file was hashed for its digest and is verified when it is read; hashing it again for the request's signature
    # would cost half a second per GB.
    config: dict[str, Any] = {"unsigned_payload": True}
    client: dict[str, Any] = {}
    for name, value in _flatten(options):
        if name == "client_kwargs.verify":
            if value is False:
                client = {"allow_invalid_certificates": True}
            elif isinstance(value, str):
                client = {"root_certificate": Path(value).read_bytes()}
        elif name in _S3_CONVERTERS:
            config |= _S3_CONVERTERS[name](value)
        elif name in _S3_NAMES:
            config[_S3_NAMES[name]] = value
        elif name not in _S3_IGNORED:
            return None
    profile = options.get("profile")
    return ObstoreSettings(
        config, client, AwsCredentials(profile=profile) if profile else options.get("aws_credentials")
    )


def _flatten(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if name in _NESTED and isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


_S3_CONVERTERS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "anon": lambda value: {"skip_signature": bool(value)},
    "config_kwargs.s3.addressing_style": lambda value: (
        {"virtual_hosted_style_request": True} if value == "virtual" else {}
    ),
    "s3_additional_kwargs.SSECustomerKey": lambda key: {
        "server_side_encryption": "sse-c",
        "sse_customer_key_base64": base64.b64encode(key.encode()).decode(),
    },
}


def _has_credentials(settings: ObstoreSettings, environment: Mapping[str, str]) -> bool:
    if "access_key_id" in settings.config or settings.config.get("skip_signature") or settings.credentials:
        return True
    return "AWS_PROFILE" not in environment and not _S3_CREDENTIALS.isdisjoint(environment)


def _azure_settings(options: Mapping[str, Any]) -> ObstoreSettings | None:
    """Translate accounts with a key or a signature; for identities adlfs uses Azure's own library."""
    given = set(options)
    if not given <= _AZURE_NAMES or "account_name" not in given or given.isdisjoint({"account_key", "sas_token"}):
        return None
    allow_http = {"allow_http": True} if options.get("endpoint", "").startswith("http://") else {}
    return ObstoreSettings(dict(options), allow_http)


def _parse_connection_string(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options that a connection string holds, or other options as they are."""
    if set(options) != {"connection_string"}:
        return options
    parts = [part.partition("=") for part in options["connection_string"].split(";") if part.strip()]
    found = {_AZURE_CONNECTION_STRING_NAMES.get(name.strip(), name): value for name, _, value in parts}
    protocol, suffix = found.pop("protocol", "https"), found.pop("suffix", "")
    if suffix and "account_name" in found:
        found.setdefault("endpoint", f"{protocol}://{found['account_name']}.blob.{suffix}")
    return found


os.register_at_fork(after_in_child=lambda: _thread_state.update(lost=_thread_state["lost"] or _thread_state["running"]))
