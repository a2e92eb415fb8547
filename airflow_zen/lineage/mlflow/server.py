"""The address of an MLflow server, and the credentials for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from airflow_zen.errors import SettingsError

_INSECURE_TLS = "MLFLOW_TRACKING_INSECURE_TLS"
_DATABASES = {"sqlite", "postgresql", "mysql", "mssql"}
_VARIABLES = {
    "username": "MLFLOW_TRACKING_USERNAME",
    "password": "MLFLOW_TRACKING_PASSWORD",
    "token": "MLFLOW_TRACKING_TOKEN",
    "ca_bundle": "MLFLOW_TRACKING_SERVER_CERT_PATH",
    "client_certificate": "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    "workspace": "MLFLOW_WORKSPACE",
    "user_retries": "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    "user_timeout": "MLFLOW_HTTP_REQUEST_TIMEOUT",
}


@dataclass(frozen=True)
class TrackingServer:
    """One MLflow server, with the credentials that MLflow's own client supports.

    uri: its address; credentials in it are moved to `username` and `password`. ui: its address for browsers, where that
    differs. ca_bundle, client_certificate: paths of PEM files. user_retries, user_timeout (seconds): how long user code
    waits for MLflow, whose own default is 7 retries of 120 s.
    """

    uri: str
    username: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    verify_tls: bool = True
    ca_bundle: str = ""
    client_certificate: str = ""
    workspace: str = ""
    ui: str = ""
    user_retries: str = "0"
    user_timeout: str = "5"

    def __post_init__(self) -> None:
        parts = urlsplit(self.uri)
        if "@" in parts.netloc:
            bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
            object.__setattr__(self, "username", self.username or unquote(parts.username or ""))
            object.__setattr__(self, "password", self.password or unquote(parts.password or ""))
            object.__setattr__(self, "uri", urlunsplit(bare))
        object.__setattr__(self, "uri", self.uri.rstrip("/"))
        object.__setattr__(self, "ui", (self.ui or self.uri).rstrip("/"))

    @property
    def backend(self) -> str:
        """The database for a server in place of an address that is none; MLflow serves no folder."""
        is_database = urlsplit(self.uri).scheme.partition("+")[0] in _DATABASES
        return self.uri if is_database else "sqlite:///mlflow.db"

    @classmethod
    def from_connection(cls, connection: Any) -> TrackingServer:
        """Return the server of an Airflow connection. Raises `SettingsError` for a connection without a host.

        The host field is the tracking URI (`http://mlflow:5000`), or a bare host name whose scheme is in the schema
        field. The port field is used where the host field has no port.
        """
        host, extra = connection.host or "", connection.extra_dejson
        if not host:
            raise SettingsError(
                f"MLflow connection {connection.conn_id!r} has no host. Enter one such as http://mlflow:5000."
            )
        uri = urlsplit(host if "://" in host else f"{connection.schema or 'http'}://{host}")
        if connection.port and uri.port is None:
            uri = uri._replace(netloc=f"{uri.netloc}:{connection.port}")
        return cls(
            uri=uri.geturl(),
            username=connection.login or "",
            password=connection.password or "",
            token=extra.get("token") or "",
            workspace=extra.get("workspace") or "",
            verify_tls=not extra.get("insecure_tls"),
            ca_bundle=extra.get("server_cert_path") or "",
            client_certificate=extra.get("client_cert_path") or "",
        )

    @classmethod
    def from_environment(cls, uri: str, environment: Mapping[str, str]) -> TrackingServer:
        """Return a server with the credentials in the variables that MLflow documents for its client."""
        values = {name: environment[variable] for name, variable in _VARIABLES.items() if variable in environment}
        values.setdefault("ca_bundle", environment.get("REQUESTS_CA_BUNDLE", ""))
        verify_tls = environment.get(_INSECURE_TLS, "").lower() not in {"true", "1"}
        return cls(uri=uri, verify_tls=verify_tls, **values)

    def environment(self) -> dict[str, str]:
        """Return the variables with which MLflow's client reaches the same server; they contain secrets."""
        variables = {
            "MLFLOW_TRACKING_URI": self.uri,
            _INSECURE_TLS: "" if self.verify_tls else "true",
            **{variable: getattr(self, name) for name, variable in _VARIABLES.items()},
        }
        if not self.verify_tls:
            del variables[_VARIABLES["ca_bundle"]]
        return {name: value for name, value in variables.items() if value}

    def run_url(self, experiment_id: str, run_id: str) -> str:
        """Return the page of a run, in the classic view: MLflow's default is its view for agents."""
        return f"{self.ui}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"
