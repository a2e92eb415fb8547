"""Translate fsspec's storage options into obstore's, or say that it cannot be done."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_S3_NAMES = {
    "key": "access_key_id",
    "username": "access_key_id",
    "secret": "secret_access_key",
    "password": "secret_access_key",
    "token": "token",
    "endpoint_url": "endpoint",
}
_S3_CLIENT_NAMES = {"endpoint_url": "endpoint", "region_name": "region"}
# botocore's settings that ask for what obstore does anyway: no trailing checksums, paths instead of host names.
_S3_NEEDLESS = {"request_checksum_calculation", "response_checksum_validation"}
_AZURE_NAMES = {"account_name": "account_name", "account_key": "account_key", "sas_token": "sas_token"}
# Sources of credentials that botocore and obstore read alike; files such as ~/.aws only botocore reads.
_S3_ENVIRONMENT = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")

# Of this process: whether obstore's threads run in it, and whether they ran in the one it was forked from.
_threads = {"running": False, "lost": False}


@dataclass(frozen=True)
class ObstoreSettings:
    """What `obstore.store.from_url` is given."""

    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    client: Mapping[str, Any] = field(default_factory=dict)


def translate(
    scheme: str, root: str, options: Mapping[str, Any], environment: Mapping[str, str]
) -> ObstoreSettings | None:
    """Give obstore's settings for `options`; None when fsspec must be used.

    None means that obstore is not installed, that an option or a source of credentials is not known
    to it, or that this process was forked from one that used it: its threads do not survive a fork,
    and the next call would hang.
    """
    if _threads["lost"] or importlib.util.find_spec("obstore") is None:
        return None
    if scheme in {"s3", "s3a"}:
        return _s3(options, environment)
    if scheme in {"gs", "gcs"}:
        return None if options or "GOOGLE_APPLICATION_CREDENTIALS" not in environment else ObstoreSettings()
    if set(options) <= set(_AZURE_NAMES) and "account_name" in options:
        return ObstoreSettings({_AZURE_NAMES[name]: value for name, value in options.items()})
    return None


def _s3(options: Mapping[str, Any], environment: Mapping[str, str]) -> ObstoreSettings | None:
    # Every file was hashed for its digest and is held to it when it is read; to hash it again for the request's signature
    # would cost half a second per GB.
    config: dict[str, Any] = {"unsigned_payload": True}
    for name, value in options.items():
        if name in _S3_NAMES:
            config[_S3_NAMES[name]] = value
        elif name == "anon":
            config["skip_signature"] = bool(value)
        elif name == "client_kwargs" and set(value) <= set(_S3_CLIENT_NAMES):
            config.update({_S3_CLIENT_NAMES[inner]: held for inner, held in value.items()})
        elif name == "config_kwargs" and set(value) <= _S3_NEEDLESS:
            continue
        else:
            return None
    signed = "access_key_id" in config or config.get("skip_signature")
    if not signed and ("AWS_PROFILE" in environment or not any(name in environment for name in _S3_ENVIRONMENT)):
        return None
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    if endpoint:
        config.setdefault("endpoint", endpoint)
    config.setdefault("region", environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1")
    client = {"allow_http": True} if str(config.get("endpoint", "")).startswith("http://") else {}
    return ObstoreSettings({name: value for name, value in config.items() if value is not None}, client)


def note_use() -> None:
    """Remember that obstore's threads run in this process."""
    _threads["running"] = True


def _after_fork() -> None:
    _threads["lost"] = _threads["lost"] or _threads["running"]


os.register_at_fork(after_in_child=_after_fork)
