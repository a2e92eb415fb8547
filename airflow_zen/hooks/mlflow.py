"""The hook of Airflow connections of type `mlflow`."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.sdk import BaseHook

from airflow_zen.errors import LineageError, SettingsError
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer


def tracking_server_from_connection(connection: Any) -> TrackingServer:
    """Return the tracking server of a connection. Raises `SettingsError` for a connection without a host.

    The host field is the tracking URI (`http://mlflow:5000`), or a bare host name whose scheme is in the schema field.
    The port field is used where the host field has no port.
    """
    host = connection.host or ""
    if not host:
        raise SettingsError(
            f"MLflow connection {connection.conn_id!r} has no host. Enter one such as http://mlflow:5000."
        )
    uri = urlsplit(host if "://" in host else f"{connection.schema or 'http'}://{host}")
    if connection.port and uri.port is None:
        uri = uri._replace(netloc=f"{uri.netloc}:{connection.port}")
    extra = connection.extra_dejson
    return TrackingServer(
        uri=uri.geturl().rstrip("/"),
        username=connection.login or "",
        password=connection.password or "",
        token=extra.get("token") or "",
        workspace=extra.get("workspace") or "",
        verify_tls=not extra.get("insecure_tls"),
        ca_bundle=extra.get("server_cert_path") or "",
        client_certificate=extra.get("client_cert_path") or "",
    )


class MlflowHook(BaseHook):
    """Send REST requests to the MLflow tracking server of a connection."""

    conn_name_attr = "mlflow_conn_id"
    default_conn_name = "mlflow_default"
    conn_type = "mlflow"
    hook_name = "MLflow"

    def __init__(self, mlflow_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.mlflow_conn_id = mlflow_conn_id

    def get_conn(self) -> MlflowRest:
        """Return a REST client for the connection."""
        return MlflowRest(tracking_server_from_connection(self.get_connection(self.mlflow_conn_id)))

    def test_connection(self) -> tuple[bool, str]:
        """Request one experiment from the server; return whether it answered, and the error with its remedy."""
        try:
            self.get_conn().get("experiments/get-by-name", {"experiment_name": "Default"})
        except (LineageError, SettingsError) as error:
            return False, str(error)
        return True, "MLflow answered."
