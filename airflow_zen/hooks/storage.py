"""Turn an Airflow connection into the storage options of the artifact root's filesystem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_zen.errors import SettingsError


def options_of(connection: Any) -> Mapping[str, Any]:
    """Give fsspec's options for a connection of type `aws`, `google_cloud_platform`, `wasb` or `adls`."""
    read = {
        "aws": _aws,
        "s3": _aws,
        "google_cloud_platform": _google,
        "wasb": _azure,
        "adls": _azure,
    }.get(connection.conn_type)
    if read is None:
        raise SettingsError(
            f"[zen] artifact_conn_id names connection {connection.conn_id!r} of type {connection.conn_type!r}; it must "
            "be aws, google_cloud_platform, wasb or adls."
        )
    return {name: value for name, value in read(connection, connection.extra_dejson).items() if value}


def _aws(connection: Any, extra: Mapping[str, Any]) -> dict[str, Any]:
    if extra.get("role_arn") or extra.get("assume_role_method"):
        raise SettingsError(
            f"Connection {connection.conn_id!r} assumes a role, which airflow_zen does not do itself: leave [zen] "
            "artifact_conn_id empty and give the worker the role through its environment or ~/.aws/config."
        )
    service = (extra.get("service_config") or {}).get("s3") or {}
    client = {
        "endpoint_url": service.get("endpoint_url") or extra.get("endpoint_url"),
        "region_name": extra.get("region_name"),
    }
    return {
        "key": connection.login or extra.get("aws_access_key_id"),
        "secret": connection.password or extra.get("aws_secret_access_key"),
        "token": extra.get("aws_session_token"),
        "client_kwargs": {name: value for name, value in client.items() if value},
    }


def _google(connection: Any, extra: Mapping[str, Any]) -> dict[str, Any]:
    import json

    keyfile = extra.get("keyfile_dict")
    token = json.loads(keyfile) if isinstance(keyfile, str) else keyfile
    return {"token": token or extra.get("key_path"), "project": extra.get("project")}


def _azure(connection: Any, extra: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "account_name": connection.login or extra.get("account_name"),
        "account_key": connection.password,
        "sas_token": extra.get("sas_token"),
        "connection_string": extra.get("connection_string"),
    }
