"""Read a connection of type `aws`, by the names that the Amazon provider documents, as options of s3fs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from airflow_zen.artifacts.aws_identity import AwsCredentials
from airflow_zen.errors import SettingsError


def s3_options(connection: Any, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Give the options; an assumed role or a profile is one of them, named `aws_credentials` or `profile`."""
    service = (extra.get("service_config") or {}).get("s3") or {}
    config = dict(extra.get("config_kwargs") or {})
    client = {
        "endpoint_url": service.get("endpoint_url") or extra.get("endpoint_url"),
        "region_name": extra.get("region_name"),
        "verify": extra.get("verify"),
    }
    return {
        **_auth_options(connection, extra, anonymous=config.pop("signature_version", None) == "unsigned"),
        "client_kwargs": {name: value for name, value in client.items() if value or value is False},
        "config_kwargs": config,
        "s3_additional_kwargs": service.get("extra_args"),
        "requester_pays": service.get("requester_pays"),
    }


def _auth_options(connection: Any, extra: Mapping[str, Any], *, anonymous: bool) -> dict[str, Any]:
    if anonymous:
        return {"anon": True}
    if extra.get("role_arn"):
        return {"aws_credentials": _assumed_role(connection, extra)}
    return _access_keys(connection, extra) | {"profile": extra.get("profile_name")}


def _access_keys(connection: Any, extra: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "key": connection.login or extra.get("aws_access_key_id"),
        "secret": connection.password or extra.get("aws_secret_access_key"),
        "token": extra.get("aws_session_token"),
    }


def _assumed_role(connection: Any, extra: Mapping[str, Any]) -> AwsCredentials:
    # As in the Amazon provider, the endpoint of other services does not hold for STS.
    sts = (extra.get("service_config") or {}).get("sts") or {}
    session = {"RoleSessionName": re.sub(r"[^\w+=,.@-]+", "-", f"airflow-zen-{connection.conn_id}")[:64]}
    return AwsCredentials(
        **{name: value or "" for name, value in _access_keys(connection, extra).items()},
        profile=extra.get("profile_name") or "",
        role_arn=extra["role_arn"],
        role_arguments={**session, **(extra.get("assume_role_kwargs") or {})},
        token_file=_web_identity_token_file(connection, extra),
        region=extra.get("region_name") or "",
        sts_endpoint=sts.get("endpoint_url") or "",
        verify=extra.get("verify"),
    )


def _web_identity_token_file(connection: Any, extra: Mapping[str, Any]) -> str:
    method = extra.get("assume_role_method") or "assume_role"
    if method == "assume_role":
        return ""
    federation = extra.get("assume_role_with_web_identity_federation")
    file = extra.get("assume_role_with_web_identity_token_file") or os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE")
    if method == "assume_role_with_web_identity" and federation == "file" and file:
        return str(file)
    raise SettingsError(
        f"Connection {connection.conn_id!r} assumes its role by {method!r}; the artifact root knows 'assume_role', and "
        "'assume_role_with_web_identity' with federation 'file' and a token file. Use one of these, or leave [zen] "
        "artifact_conn_id empty and give the worker the role through its environment or ~/.aws/config."
    )
