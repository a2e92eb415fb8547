"""Credentials for S3 that botocore finds and renews: those of a profile, or of an assumed role."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from airflow_zen.errors import SettingsError, StoreDenied

# Botocore renews a role's credentials at the latest 10 minutes before they expire, so they are valid for this long.
_CREDENTIAL_LIFETIME = timedelta(minutes=8)


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
        credentials = self._credentials()

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

    def _credentials(self) -> Any:
        from botocore.credentials import DeferredRefreshableCredentials

        session = self._session()
        if self.role_arn:
            return DeferredRefreshableCredentials(self._role_assumer(session), "assume-role")
        return _require_credentials(session, self.profile)

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
