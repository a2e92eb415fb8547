"""Turn an Airflow connection into the storage options of the artifact root's filesystem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_zen.errors import SettingsError
from airflow_zen.hooks.aws import s3_options


def options_of(connection: Any) -> Mapping[str, Any]:
    """Give fsspec's options for a connection of type `aws`, `google_cloud_platform`, `wasb` or `adls`."""
    read = {
        "aws": s3_options,
        "s3": s3_options,
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
