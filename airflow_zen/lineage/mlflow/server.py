"""The address of an MLflow server, and the credentials for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

_TRUE = frozenset({"true", "1"})


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

    @classmethod
    def from_environment(cls, uri: str, environment: Mapping[str, str], ui: str = "") -> TrackingServer:
        """Return a server with the credentials in the variables that MLflow documents for its client."""
        return cls(
            uri=uri,
            ui=ui,
            username=environment.get("MLFLOW_TRACKING_USERNAME", ""),
            password=environment.get("MLFLOW_TRACKING_PASSWORD", ""),
            token=environment.get("MLFLOW_TRACKING_TOKEN", ""),
            verify_tls=environment.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() not in _TRUE,
            ca_bundle=environment.get("MLFLOW_TRACKING_SERVER_CERT_PATH", environment.get("REQUESTS_CA_BUNDLE", "")),
            client_certificate=environment.get("MLFLOW_TRACKING_CLIENT_CERT_PATH", ""),
            workspace=environment.get("MLFLOW_WORKSPACE", ""),
            user_retries=environment.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES", cls.user_retries),
            user_timeout=environment.get("MLFLOW_HTTP_REQUEST_TIMEOUT", cls.user_timeout),
        )

    def environment(self) -> dict[str, str]:
        """Return the variables with which MLflow's client reaches the same server; they contain secrets."""
        variables = {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": self.username,
            "MLFLOW_TRACKING_PASSWORD": self.password,
            "MLFLOW_TRACKING_TOKEN": self.token,
            "MLFLOW_TRACKING_INSECURE_TLS": "" if self.verify_tls else "true",
            "MLFLOW_TRACKING_SERVER_CERT_PATH": self.ca_bundle if self.verify_tls else "",
            "MLFLOW_TRACKING_CLIENT_CERT_PATH": self.client_certificate,
            "MLFLOW_WORKSPACE": self.workspace,
        }
        return {name: value for name, value in variables.items() if value} | self.timeout_environment()

    def timeout_environment(self) -> dict[str, str]:
        """Return the variables that limit how long MLflow's client waits."""
        return {
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": self.user_retries,
            "MLFLOW_HTTP_REQUEST_TIMEOUT": self.user_timeout,
        }

    def run_url(self, experiment_id: str, run_id: str) -> str:
        """Return the page of a run, in the classic view: MLflow's default is its view for agents."""
        return f"{self.ui}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"
