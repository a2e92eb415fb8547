"""The credentials of the artifact root in the forms that serving systems read from a Kubernetes secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from airflow_zen.errors import DeploymentFailed


class StoreSecret(msgspec.Struct, frozen=True):
    """The contents of a secret."""

    data: Mapping[str, str]
    annotations: Mapping[str, str] = msgspec.field(default_factory=dict)


def kserve_secret(options: Mapping[str, Any]) -> StoreSecret | None:
    """Return KServe's form of fsspec's options; None where the machines of the cluster have the access themselves.

    https://kserve.github.io/website/docs/model-serving/storage/overview
    """
    if "account_name" in options:
        return StoreSecret(_azure(options))
    if key := _google_key(options):
        return StoreSecret({"gcloud-application-credentials.json": key})
    return _kserve_s3(options) if _has_s3_credentials(options) else None


def rclone_secret(options: Mapping[str, Any]) -> StoreSecret | None:
    """Return the configuration of rclone, which Seldon Core 2 reads; its remote has the name of the scheme.

    https://docs.seldon.ai/seldon-core-2/user-guide/storage-secrets
    """
    if "account_name" in options:
        names = {"account_name": "account", "account_key": "key", "client_id": "client_id", "tenant_id": "tenant"}
        names |= {"client_secret": "client_secret"}
        parameters = {to: str(options[name]) for name, to in names.items() if name in options}
        return _remote("az", "azureblob", parameters)
    if key := _google_key(options):
        return _remote("gs", "google cloud storage", {"service_account_credentials": key})
    return _rclone_s3(options) if _has_s3_credentials(options) else None


def rclone_environment(secret: StoreSecret) -> StoreSecret:
    """Return the same as the variables that Seldon Core 1 gives its storage initializer."""
    remote = json.loads(secret.data["remote"])
    prefix = f"RCLONE_CONFIG_{remote['name'].upper()}"
    fields = {"TYPE": remote["type"], **{name.upper(): value for name, value in remote["parameters"].items()}}
    return StoreSecret({f"{prefix}_{name}": value for name, value in fields.items()})


def _remote(name: str, kind: str, parameters: Mapping[str, str]) -> StoreSecret:
    given = {key: value for key, value in parameters.items() if value}
    return StoreSecret({"remote": json.dumps({"type": kind, "name": name, "parameters": given})})


def _has_s3_credentials(options: Mapping[str, Any]) -> bool:
    """Whether a connection has more than the region: without it the cluster's machines read the bucket themselves."""
    client = options.get("client_kwargs", {})
    return bool({"key", "anon", "profile", "aws_credentials"} & set(options)) or "endpoint_url" in client


def _rclone_s3(options: Mapping[str, Any]) -> StoreSecret:
    client = options.get("client_kwargs", {})
    keys = (
        {}
        if options.get("anon")
        else _s3_keys(options, "secret with a configuration of rclone", "Seldon(secret='NAME')")
    )
    parameters = {
        "provider": "Other" if "endpoint_url" in client else "AWS",
        "access_key_id": keys.get("key", ""),
        "secret_access_key": keys.get("secret", ""),
        "session_token": keys.get("token", ""),
        "endpoint": client.get("endpoint_url", ""),
        "region": client.get("region_name", ""),
    }
    return _remote("s3", "s3", parameters)


def _kserve_s3(options: Mapping[str, Any]) -> StoreSecret:
    client = options.get("client_kwargs", {})
    endpoint = urlsplit(client.get("endpoint_url") or "https://s3.amazonaws.com")
    annotations = {
        "serving.kserve.io/s3-endpoint": endpoint.netloc,
        "serving.kserve.io/s3-usehttps": str(int(endpoint.scheme == "https")),
        "serving.kserve.io/s3-verifyssl": str(int(client.get("verify") is not False)),
        "serving.kserve.io/s3-region": client.get("region_name", ""),
        "serving.kserve.io/s3-useanoncredential": str(bool(options.get("anon"))).lower(),
    }
    annotations = {name: value for name, value in annotations.items() if value}
    if options.get("anon"):
        return StoreSecret({}, annotations)
    keys = _s3_keys(options, "service account that reads the artifact root", "KServe(service_account='NAME')")
    data = {"AWS_ACCESS_KEY_ID": keys["key"], "AWS_SECRET_ACCESS_KEY": keys["secret"]}
    return StoreSecret(data | ({"AWS_SESSION_TOKEN": keys["token"]} if keys.get("token") else {}), annotations)


def _s3_keys(options: Mapping[str, Any], other: str, option: str) -> Mapping[str, str]:
    if "key" not in options or "secret" not in options:
        raise DeploymentFailed(
            f"The connection of the artifact root has no keys that could be given to the cluster. Name a {other} there: "
            f"{option}."
        )
    return options


def _google_key(options: Mapping[str, Any]) -> str:
    token = options.get("token")
    if isinstance(token, Mapping):
        return json.dumps(token)
    return Path(token).read_text() if isinstance(token, str) and Path(token).is_file() else ""


def _azure(options: Mapping[str, Any]) -> dict[str, str]:
    names = {"account_key": "AZURE_STORAGE_ACCESS_KEY", "client_id": "AZURE_CLIENT_ID", "tenant_id": "AZURE_TENANT_ID"}
    names |= {"client_secret": "AZURE_CLIENT_SECRET"}
    return {to: str(options[name]) for name, to in names.items() if name in options}
