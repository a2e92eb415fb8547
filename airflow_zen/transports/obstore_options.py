"""The translation of fsspec's storage options into obstore's, where there is one."""

from __future__ import annotations

import base64
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow_zen.transports.aws_credentials import AwsCredentials

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
# What obstore does anyway: no trailing checksums, and AES256 for a customer's key.
_S3_IGNORED = {
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
_S3_CREDENTIAL_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)
# A request as a whole may take this long, in seconds: what limits it is the wait for its next bytes.
_NO_TIMEOUT = 7 * 24 * 3600.0

# Whether obstore's threads run in this process, and whether they ran in the process from which it was forked.
_thread_state = {"running": False, "lost": False}


@dataclass(frozen=True)
class ObstoreSettings:
    """Arguments of `obstore.store.from_url`.

    credentials: those that are renewed again and again; None where `config` holds the credentials.
    """

    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    client: Mapping[str, Any] = field(default_factory=dict)
    credentials: AwsCredentials | None = None


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
    if settings is None or not (_has_credentials(settings) or _environment_has_credentials(environment)):
        return None
    config, client = dict(settings.config), dict(settings.client)
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    if endpoint:
        config.setdefault("endpoint", endpoint)
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
    config = {name: value for name, value in config.items() if value is not None}
    return ObstoreSettings(config, client, settings.credentials)


def _translate_s3_options(options: Mapping[str, Any]) -> ObstoreSettings | None:
    """Translate s3fs's options; None for an option that obstore does not have."""
    # Every file was hashed for its digest and is verified when it is read; hashing it again for the request's signature
    # would cost half a second per GB.
    config: dict[str, Any] = {"unsigned_payload": True}
    client: dict[str, Any] = {}
    credentials = None
    for name, value in _flatten(options):
        if name in {"profile", "aws_credentials"}:
            credentials = AwsCredentials(profile=value) if name == "profile" else value
        elif name == "client_kwargs.verify":
            client = _tls_options(value)
        elif name in _S3_CONVERTERS:
            config |= _S3_CONVERTERS[name](value)
        elif name in _S3_NAMES:
            config[_S3_NAMES[name]] = value
        elif name not in _S3_IGNORED:
            return None
    return ObstoreSettings(config, client, credentials)


def _flatten(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if name in _NESTED and isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _customer_key_options(key: str) -> dict[str, Any]:
    return {"server_side_encryption": "sse-c", "sse_customer_key_base64": base64.b64encode(key.encode()).decode()}


def _tls_options(verify: bool | str | None) -> dict[str, Any]:
    if verify is False:
        return {"allow_invalid_certificates": True}
    return {"root_certificate": Path(verify).read_bytes()} if isinstance(verify, str) else {}


_S3_CONVERTERS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "anon": lambda value: {"skip_signature": bool(value)},
    "config_kwargs.s3.addressing_style": lambda value: (
        {"virtual_hosted_style_request": True} if value == "virtual" else {}
    ),
    "s3_additional_kwargs.SSECustomerKey": _customer_key_options,
}


def _has_credentials(settings: ObstoreSettings) -> bool:
    config = settings.config
    return "access_key_id" in config or bool(config.get("skip_signature")) or settings.credentials is not None


def _environment_has_credentials(environment: Mapping[str, str]) -> bool:
    return "AWS_PROFILE" not in environment and any(name in environment for name in _S3_CREDENTIAL_VARIABLES)


def _azure_settings(options: Mapping[str, Any]) -> ObstoreSettings | None:
    """Translate accounts with a key or a signature; for identities adlfs uses Azure's own library."""
    if (
        not set(options) <= _AZURE_NAMES
        or "account_name" not in options
        or not {"account_key", "sas_token"} & set(options)
    ):
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


def with_timeouts(client: Mapping[str, Any], connect: float, read: float) -> dict[str, Any]:
    """Return the client's options with timeouts in seconds: for a connection, and for the next bytes of a response.

    A response may take as long as its bytes keep arriving; by default obstore ends every request after 30 s.
    """
    times = {"connect_timeout": connect, "read_timeout": read, "timeout": _NO_TIMEOUT}
    return {**{name: timedelta(seconds=seconds) for name, seconds in times.items()}, **client}


def mark_threads_started() -> None:
    """Record that obstore's threads run in this process."""
    _thread_state["running"] = True


def _after_fork() -> None:
    _thread_state["lost"] = _thread_state["lost"] or _thread_state["running"]


os.register_at_fork(after_in_child=_after_fork)
