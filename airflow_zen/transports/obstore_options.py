"""Translate fsspec's storage options into obstore's, or say that it cannot be done."""

from __future__ import annotations

import base64
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow_zen.transports.aws_credentials import AwsCredentials

_S3_OPTION_NAMES = {
    "key": "access_key_id",
    "username": "access_key_id",
    "secret": "secret_access_key",
    "password": "secret_access_key",
    "token": "token",
    "endpoint_url": "endpoint",
}
_S3_CLIENT_OPTION_NAMES = {"endpoint_url": "endpoint", "region_name": "region"}
# botocore's settings that ask for what obstore does anyway: no trailing checksums, paths instead of host names.
_S3_IGNORED_OPTIONS = {"request_checksum_calculation", "response_checksum_validation"}
_AZURE_OPTION_NAMES = {
    "account_name": "account_name",
    "account_key": "account_key",
    "sas_token": "sas_token",
    "endpoint": "endpoint",
}
_AZURE_CONNECTION_STRING_NAMES = {
    "AccountName": "account_name",
    "AccountKey": "account_key",
    "SharedAccessSignature": "sas_token",
    "BlobEndpoint": "endpoint",
    "DefaultEndpointsProtocol": "protocol",
    "EndpointSuffix": "suffix",
}
_S3_ENCRYPTION_NAMES = {
    "ServerSideEncryption": "server_side_encryption",
    "SSEKMSKeyId": "sse_kms_key_id",
    "BucketKeyEnabled": "sse_bucket_key_enabled",
}
# Sources of credentials that botocore and obstore read alike; files such as ~/.aws only botocore reads.
_S3_CREDENTIAL_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)

# Seconds; what bounds a request is that nothing comes.
_NO_TIMEOUT = 7 * 24 * 3600.0

# Of this process: whether obstore's threads run in it, and whether they ran in the one it was forked from.
_thread_state = {"running": False, "lost": False}


@dataclass(frozen=True)
class ObstoreSettings:
    """What `obstore.store.from_url` is given.

    credentials: whose credentials are asked for again and again; None where `config` holds them.
    """

    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    client: Mapping[str, Any] = field(default_factory=dict)
    credentials: AwsCredentials | None = None


def to_obstore_settings(
    scheme: str, root: str, options: Mapping[str, Any], environment: Mapping[str, str]
) -> ObstoreSettings | None:
    """Give obstore's settings for `options`; None when fsspec must be used.

    None means that obstore is not installed, that an option or a source of credentials is not known
    to it, or that this process was forked from one that used it: its threads do not survive a fork,
    and the next call would hang.
    """
    if _thread_state["lost"] or importlib.util.find_spec("obstore") is None:
        return None
    if scheme in {"s3", "s3a"}:
        return _s3_settings(root, options, environment)
    return _azure_settings(_parse_connection_string(options))


def _s3_settings(root: str, options: Mapping[str, Any], environment: Mapping[str, str]) -> ObstoreSettings | None:
    # Every file was hashed for its digest and is held to it when it is read; to hash it again for the request's signature
    # would cost half a second per GB.
    settings: ObstoreSettings | None = ObstoreSettings({"unsigned_payload": True})
    for name, value in options.items():
        if settings is None:
            return None
        settings = _add_s3_option(settings, name, value)
    if settings is None or not (_has_credentials(settings) or _environment_has_credentials(environment)):
        return None
    config = dict(settings.config)
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    if endpoint:
        config.setdefault("endpoint", endpoint)
    config.setdefault("region", environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1")
    client = dict(settings.client)
    if str(config.get("endpoint", "")).startswith("http://"):
        client["allow_http"] = True
    if not client.keys() & {"root_certificate", "allow_invalid_certificates"} and environment.get("AWS_CA_BUNDLE"):
        client["root_certificate"] = Path(environment["AWS_CA_BUNDLE"]).read_bytes()
    return replace(
        settings, config=_with_bucket_host({k: v for k, v in config.items() if v is not None}, root), client=client
    )


def _azure_settings(options: Mapping[str, Any]) -> ObstoreSettings | None:
    """Take accounts with a key or a signature; identities are left to Azure's own library, behind adlfs."""
    config = {_AZURE_OPTION_NAMES[name]: value for name, value in options.items() if name in _AZURE_OPTION_NAMES}
    if len(config) < len(options) or "account_name" not in config or not {"account_key", "sas_token"} & set(config):
        return None
    return ObstoreSettings(config, {"allow_http": True} if config.get("endpoint", "").startswith("http://") else {})


def _parse_connection_string(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read a connection string into options."""
    if set(options) != {"connection_string"}:
        return options
    parts = [part.partition("=") for part in options["connection_string"].split(";") if part.strip()]
    held = {_AZURE_CONNECTION_STRING_NAMES.get(name.strip(), name): value for name, _, value in parts}
    protocol, suffix = held.pop("protocol", "https"), held.pop("suffix", "")
    if suffix and "account_name" in held:
        held.setdefault("endpoint", f"{protocol}://{held['account_name']}.blob.{suffix}")
    return held


def _add_s3_option(settings: ObstoreSettings, name: str, value: Any) -> ObstoreSettings | None:
    """Add one of s3fs's options; None where obstore has no word for it."""
    if name in _S3_OPTION_NAMES:
        return _with_config(settings, {_S3_OPTION_NAMES[name]: value})
    if name == "anon":
        return _with_config(settings, {"skip_signature": bool(value)})
    if name == "profile":
        return replace(settings, credentials=AwsCredentials(profile=value))
    if name == "aws_credentials":
        return replace(settings, credentials=value)
    if name == "client_kwargs":
        return _add_client_kwargs(settings, value)
    if name == "config_kwargs":
        return _add_config_kwargs(settings, value)
    if name == "s3_additional_kwargs":
        return _add_encryption(settings, value)
    return None


def _add_client_kwargs(settings: ObstoreSettings, value: Mapping[str, Any]) -> ObstoreSettings | None:
    if not set(value) <= {*_S3_CLIENT_OPTION_NAMES, "verify"}:
        return None
    settings = _with_config(
        settings, {_S3_CLIENT_OPTION_NAMES[inner]: held for inner, held in value.items() if inner != "verify"}
    )
    verify = value.get("verify")
    if verify is False:
        return replace(settings, client={"allow_invalid_certificates": True})
    return (
        replace(settings, client={"root_certificate": Path(verify).read_bytes()})
        if isinstance(verify, str)
        else settings
    )


def _add_config_kwargs(settings: ObstoreSettings, value: Mapping[str, Any]) -> ObstoreSettings | None:
    if not set(value) <= {*_S3_IGNORED_OPTIONS, "s3"} or not set(value.get("s3", {})) <= {"addressing_style"}:
        return None
    virtual = value.get("s3", {}).get("addressing_style") == "virtual"
    return _with_config(settings, {"virtual_hosted_style_request": True}) if virtual else settings


def _add_encryption(settings: ObstoreSettings, value: Mapping[str, Any]) -> ObstoreSettings | None:
    if not set(value) <= {*_S3_ENCRYPTION_NAMES, "SSECustomerKey", "SSECustomerAlgorithm"}:
        return None
    settings = _with_config(
        settings, {_S3_ENCRYPTION_NAMES[inner]: held for inner, held in value.items() if inner in _S3_ENCRYPTION_NAMES}
    )
    if "SSECustomerKey" not in value:
        return settings
    key = base64.b64encode(value["SSECustomerKey"].encode()).decode()
    return _with_config(settings, {"server_side_encryption": "sse-c", "sse_customer_key_base64": key})


def _has_credentials(settings: ObstoreSettings) -> bool:
    held = settings.config
    return "access_key_id" in held or bool(held.get("skip_signature")) or settings.credentials is not None


def _environment_has_credentials(environment: Mapping[str, str]) -> bool:
    return "AWS_PROFILE" not in environment and any(name in environment for name in _S3_CREDENTIAL_VARIABLES)


def _with_config(settings: ObstoreSettings, config: Mapping[str, Any]) -> ObstoreSettings:
    return replace(settings, config={**settings.config, **config})


def _with_bucket_host(config: dict[str, Any], root: str) -> dict[str, Any]:
    """Put the bucket before the endpoint's host where that is how the bucket is addressed: obstore leaves it to us."""
    if not (config.get("virtual_hosted_style_request") and "endpoint" in config):
        return config
    scheme, _, host = config["endpoint"].partition("://")
    bucket = root.partition("://")[2].partition("/")[0]
    return config if host.startswith(f"{bucket}.") else {**config, "endpoint": f"{scheme}://{bucket}.{host}"}


def with_timeouts(client: Mapping[str, Any], connect: float, read: float) -> dict[str, Any]:
    """Give the client's options with times, in seconds: for a connection, and for the next bytes of an answer.

    An answer may take as long as bytes of it come: obstore by itself ends every request after 30 s.
    """
    times = {"connect_timeout": connect, "read_timeout": read, "timeout": _NO_TIMEOUT}
    return {**{name: timedelta(seconds=seconds) for name, seconds in times.items()}, **client}


def mark_threads_started() -> None:
    """Remember that obstore's threads run in this process."""
    _thread_state["running"] = True


def _after_fork() -> None:
    _thread_state["lost"] = _thread_state["lost"] or _thread_state["running"]


os.register_at_fork(after_in_child=_after_fork)
