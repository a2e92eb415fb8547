"""The file that owns mlflow: in a step's processes, its client talks to the step's relay.

MLflow loads it through the entry points `mlflow.tracking_store` and `mlflow.request_auth_provider`. The store is MLflow's
own in every process, and has the server's address, which MLflow prints in links. In a step its requests are redirected.
"""

from __future__ import annotations

import os
from functools import partial
from urllib.parse import urlsplit

from mlflow.store.tracking.rest_store import RestStore
from mlflow.tracking.request_auth.abstract_request_auth_provider import RequestAuthProvider
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import MlflowHostCreds
from requests import PreparedRequest

from airflow_zen.lineage.mlflow.offline import RELAY_VARIABLE


def open_store(store_uri: str, artifact_uri: str | None = None) -> RestStore:
    """Build what MLflow's own builder for `http` and `https` builds."""
    return RestStore(partial(_host, store_uri))  # type: ignore[no-untyped-call]


class RelayAuth(RequestAuthProvider):
    """Redirect requests to the relay, after the authentication that the step's code has chosen."""

    def get_name(self) -> str:
        """Return the name by which the store asks for this."""
        return RELAY_VARIABLE

    def get_auth(self) -> RelayAuth:
        """Return what changes each request."""
        return self

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Change one request."""
        # It loads this file when it is imported.
        from mlflow.tracking.request_auth.registry import fetch_auth

        if chosen := os.environ.get("MLFLOW_TRACKING_AUTH"):
            request.prepare_auth(fetch_auth(chosen))  # type: ignore[no-untyped-call]
        server, _, relay = os.environ.get(RELAY_VARIABLE, "").partition(" ")
        if relay:
            request.url = relay + request.path_url.removeprefix(urlsplit(server).path)
        return request


def _host(store_uri: str) -> MlflowHostCreds:
    host = get_default_host_creds(store_uri)  # type: ignore[no-untyped-call]
    if os.environ.get(RELAY_VARIABLE, "").partition(" ")[0] == store_uri.rstrip("/"):
        host.auth = RELAY_VARIABLE
    return host  # type: ignore[no-any-return]
