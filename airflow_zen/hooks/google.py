"""Read a connection of type `google_cloud_platform`, by the names that the Google provider documents, for gcsfs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow_zen.errors import SettingsError

# Ways to credentials that take the Google provider's own code.
_UNSUPPORTED_FIELDS = ("key_secret_name", "impersonation_chain")


def google_options(connection: Any, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Give the options; without any key the worker's own application default credentials are used."""
    extra = {name.removeprefix("extra__google_cloud_platform__"): value for name, value in extra.items() if value}
    if unsupported := [name for name in _UNSUPPORTED_FIELDS if name in extra]:
        raise SettingsError(
            f"Connection {connection.conn_id!r} has {unsupported[0]!r}, which the artifact root does not follow: use keyfile_dict, "
            "key_path or credential_config_file, or leave [zen] artifact_conn_id empty and give the worker the identity."
        )
    return {
        "token": _gcs_token(extra),
        "project": extra.get("project"),
        "endpoint_url": extra.get("gcs.endpoint"),
        "requester_pays": extra.get("gcs.requester-pays"),
    }


def _gcs_token(extra: Mapping[str, Any]) -> Any:
    if extra.get("is_anonymous"):
        return "anon"
    key = extra.get("keyfile_dict") or extra.get("key_path") or extra.get("credential_config_file")
    return json.loads(key) if isinstance(key, str) and key.lstrip().startswith("{") else key
