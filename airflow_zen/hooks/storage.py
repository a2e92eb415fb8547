"""Turn an Airflow connection into the storage options of the artifact root's filesystem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_zen.errors import SettingsError
from airflow_zen.hooks.aws import s3_options
from airflow_zen.hooks.azure import azure_options
from airflow_zen.hooks.google import google_options

_EMPTY_VALUES: tuple[Any, ...] = (None, "", {})


def fsspec_options(connection: Any) -> Mapping[str, Any]:
    """Give fsspec's options for a connection of type `aws`, `google_cloud_platform`, `wasb` or `adls`."""
    read = {
        "aws": s3_options,
        "s3": s3_options,
        "google_cloud_platform": google_options,
        "wasb": azure_options,
        "adls": azure_options,
    }.get(connection.conn_type)
    if read is None:
        raise SettingsError(
            f"[zen] artifact_conn_id names connection {connection.conn_id!r} of type {connection.conn_type!r}; it must "
            "be aws, google_cloud_platform, wasb or adls."
        )
    return {
        name: value for name, value in read(connection, connection.extra_dejson).items() if value not in _EMPTY_VALUES
    }
