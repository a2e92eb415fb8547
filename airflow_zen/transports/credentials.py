"""The storage options of an Airflow connection, with credentials that botocore finds and renews."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from airflow_zen.errors import SettingsError, StoreDenied

# Botocore renews a role's credentials at the latest 10 minutes before they expire, so they are valid for this long.
_CREDENTIAL_LIFETIME = timedelta(minutes=8)


def fsspec_options(connection: Any) -> Mapping[str, Any]:
    """Return fsspec's options for a connection of type `aws`, `google_cloud_platform`, `wasb` or `adls`."""
    read_options = {
        "aws": _s3_options,
        "s3": _s3_options,
        "google_cloud_platform": _google_options,
        "wasb": _azure_options,
        "adls": _azure_options,
    }.get(connection.conn_type)
    if read_options is None:
        raise SettingsError(
            f"[zen] artifact_conn_id names connection {connection.conn_id!r} of type {connection.conn_type!r}; it must "
            "be aws, google_cloud_platform, wasb or adls."
        )
    options = read_options(connection, connection.extra_dejson)
    return {name: value for name, value in options.items() if value not in (None, "", {})}


def _s3_options(connection: Any, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options; an assumed role is in `aws_credentials`, a profile in `profile`."""
    service = (extra.get("service_config") or {}).get("s3") or {}
    config = dict(extra.get("config_kwargs") or {})
    client = {
        "endpoint_url": service.get("endpoint_url") or extra.get("endpoint_url"),
        "region_name": extra.get("region_name"),
        "verify": extra.get("verify"),
    }
    if config.pop("signature_version", None) == "unsigned":
        credentials: dict[str, Any] = {"anon": True}
    elif extra.get("role_arn"):
        credentials = {"aws_credentials": _assumed_role(connection, extra)}
    else:
        credentials = _access_keys(connection, extra) | {"profile": extra.get("profile_name")}
    return {
        **credentials,
        "client_kwargs": {name: value for name, value in client.items() if value or value is False},
        "config_kwargs": config,
        "s3_additional_kwargs": service.get("extra_args"),
        "requester_pays": service.get("requester_pays"),
    }


def _access_keys(connection: Any, extra: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "key": connection.login or extra.get("aws_access_key_id"),
        "secret": connection.password or extra.get("aws_secret_access_key"),
        "token": extra.get("aws_session_token"),
    }


def _assumed_role(connection: Any, extra: Mapping[str, Any]) -> AwsCredentials:
    # As in the Amazon provider, the endpoint of other services does not apply to STS.
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
        f"Connection {connection.conn_id!r} assumes its role by {method!r}; the artifact root supports 'assume_role', "
        "and 'assume_role_with_web_identity' with federation 'file' and a token file. Use one of these, or leave [zen] "
        "artifact_conn_id empty and give the worker the role through its environment or ~/.aws/config."
    )


# The fields of adlfs. It passes those of an identity to DefaultAzureCredential.
_AZURE_FIELDS = (
    *("account_name", "account_key", "account_host", "anon"),
    *("managed_identity_client_id", "workload_identity_client_id", "workload_identity_tenant_id"),
)


def _azure_options(connection: Any, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options. A connection string takes precedence; without any key the worker's identity is used."""
    prefix = f"extra__{connection.conn_type}__"
    extra = {name.removeprefix(prefix): value for name, value in extra.items() if value or value is False}
    if "connection_string" in extra:
        return {"connection_string": extra["connection_string"]}
    if str(extra.get("sas_token", "")).startswith("https://"):
        address, _, token = extra["sas_token"].partition("?")
        return {"account_name": _account_name(address), "sas_token": token}
    options = _account_options(connection, extra) | {name: extra[name] for name in _AZURE_FIELDS if name in extra}
    if "://" in (connection.host or "") and "account_name" in options:
        return _with_endpoint(connection.host, options)
    has_credentials = {"account_key", "sas_token", "client_secret", "anon"} & set(options)
    return options if has_credentials else options | {"anon": False}


def _account_options(connection: Any, extra: Mapping[str, Any]) -> dict[str, Any]:
    account = _account_name(connection.host or "")
    if tenant := extra.get("tenant_id"):
        identity = {"client_id": connection.login, "client_secret": connection.password}
        return {**identity, "tenant_id": tenant, "account_name": account}
    options = {"account_name": connection.login or account}
    if "sas_token" in extra:
        return options | {"sas_token": extra["sas_token"].lstrip("?")}
    key = extra.get("shared_access_key") or connection.password
    return options | ({"account_key": key} if key else {})


def _with_endpoint(host: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Add the address: every client reads an address other than Azure's from a connection string only."""
    if "account_key" in options:
        credentials = f"AccountKey={options['account_key']}"
    elif "sas_token" in options:
        credentials = f"SharedAccessSignature={options['sas_token']}"
    else:
        return {"account_host": urlsplit(host).netloc, **options}
    account = f"AccountName={options['account_name']}"
    return {"connection_string": f"BlobEndpoint={host.rstrip('/')};{account};{credentials}"}


def _account_name(host: str) -> str:
    """Return the account of an address `https://ACCOUNT.blob.core.windows.net`; empty for any other address."""
    name = urlsplit(host if "://" in host else f"//{host}").hostname or ""
    account, dot, rest = name.partition(".")
    return account if dot and not rest.replace(".", "").isdigit() else ""


def _google_options(connection: Any, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options; without any key the worker's application default credentials are used."""
    extra = {name.removeprefix("extra__google_cloud_platform__"): value for name, value in extra.items() if value}
    # Sources of credentials that only the Google provider's own code can use.
    if unsupported := [name for name in ("key_secret_name", "impersonation_chain") if name in extra]:
        raise SettingsError(
            f"Connection {connection.conn_id!r} has {unsupported[0]!r}, which the artifact root does not support. Use "
            "keyfile_dict, key_path or credential_config_file, or leave [zen] artifact_conn_id empty and give the "
            "worker the identity."
        )
    key = extra.get("keyfile_dict") or extra.get("key_path") or extra.get("credential_config_file")
    if isinstance(key, str) and key.lstrip().startswith("{"):
        key = json.loads(key)
    return {
        "token": "anon" if extra.get("is_anonymous") else key,
        "project": extra.get("project"),
        "endpoint_url": extra.get("gcs.endpoint"),
        "requester_pays": extra.get("gcs.requester-pays"),
    }


@dataclass(frozen=True)
class AwsCredentials:
    """Keys or a profile, and the role that they assume, if any.

    Without keys and profile botocore searches its usual places: environment, files, the machine's own role.

    role_arguments: arguments of STS's request, such as `ExternalId` and `DurationSeconds`.
    token_file: the token of a web identity, which assumes the role without keys.
    sts_endpoint, verify: for requests to STS only.
    """

    key: str = ""
    secret: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    profile: str = ""
    role_arn: str = ""
    role_arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)
    token_file: str = ""
    region: str = ""
    sts_endpoint: str = ""
    verify: bool | str | None = None

    def obstore_provider(self) -> Callable[[], dict[str, Any]]:
        """Return obstore's credential provider, which obstore calls again before the credentials expire."""
        from botocore.credentials import DeferredRefreshableCredentials

        session = self._session()
        if self.role_arn:
            credentials: Any = DeferredRefreshableCredentials(self._role_assumer(session), "assume-role")
        else:
            credentials = _require_credentials(session, self.profile)

        def provide() -> dict[str, Any]:
            frozen = credentials.get_frozen_credentials()
            return {
                "access_key_id": frozen.access_key,
                "secret_access_key": frozen.secret_key,
                "token": frozen.token,
                "expires_at": datetime.now(UTC) + _CREDENTIAL_LIFETIME,
            }

        return provide

    def aiobotocore_session(self) -> Any:
        """Return a session of aiobotocore, s3fs's client, with the credentials of the role."""
        from aiobotocore.credentials import AioDeferredRefreshableCredentials
        from aiobotocore.session import AioSession

        fetch = self._role_assumer(self._session())

        async def renew() -> Any:
            return await asyncio.to_thread(fetch)

        session = AioSession()
        # As in the Amazon provider: a session has no public method for credentials that renew themselves.
        session._credentials = AioDeferredRefreshableCredentials(renew, "assume-role")  # noqa: SLF001
        return session

    def _session(self) -> Any:
        import botocore.session

        session = botocore.session.Session(profile=self.profile or None)
        if self.key:
            session.set_credentials(self.key, self.secret, self.token or None)
        return session

    def _role_assumer(self, session: Any) -> Callable[[], Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        fetcher = self._role_fetcher(session)

        def assume() -> Any:
            try:
                return fetcher.fetch_credentials()
            except (BotoCoreError, ClientError) as error:
                raise StoreDenied(
                    f"Role {self.role_arn} cannot be assumed: {error}. Check role_arn and assume_role_kwargs of the connection "
                    "that [zen] artifact_conn_id names, and that the role trusts the caller."
                ) from error

        return assume

    def _role_fetcher(self, session: Any) -> Any:
        from botocore.credentials import (
            AssumeRoleCredentialFetcher,
            AssumeRoleWithWebIdentityCredentialFetcher,
            FileWebIdentityTokenLoader,
        )

        client = partial(
            session.create_client,
            region_name=self.region or session.get_config_variable("region") or "us-east-1",
            endpoint_url=self.sts_endpoint or None,
            verify=self.verify,
        )
        arguments = dict(self.role_arguments)
        if self.token_file:
            load = FileWebIdentityTokenLoader(self.token_file)
            return AssumeRoleWithWebIdentityCredentialFetcher(client, load, self.role_arn, arguments)
        return AssumeRoleCredentialFetcher(
            client, _require_credentials(session, self.profile), self.role_arn, arguments
        )


def _require_credentials(session: Any, profile: str) -> Any:
    from botocore.exceptions import BotoCoreError

    try:
        credentials = session.get_credentials()
    except BotoCoreError as error:
        raise SettingsError(
            f"The credentials of [zen] artifact_conn_id cannot be read: {error}. Check that profile {profile!r} is in ~/.aws "
            "of the worker's user."
        ) from error
    if credentials is None:
        raise SettingsError(
            "[zen] artifact_conn_id names a connection without keys, and botocore finds none in the worker's environment, "
            "in ~/.aws or from the machine: give the connection a login and password, or profile_name, or anonymous access."
        )
    return credentials
