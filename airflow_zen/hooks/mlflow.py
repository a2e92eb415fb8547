"""The Airflow connection of type `mlflow`."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.sdk import BaseHook

from airflow_zen.errors import LineageError, SettingsError
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer


def tracking_server_from_connection(connection: Any) -> TrackingServer:
    """Read a connection as a tracking server; raises `SettingsError` when it names none.

    Host is the tracking URI (`http://mlflow:5000`), or a bare host with schema beside it; port says the port where
    host does not.
    """
    host = connection.host or ""
    if not host:
        raise SettingsError(f"MLflow connection {connection.conn_id!r} has no host; write http://mlflow:5000 there.")
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
    """Speak to the MLflow tracking server of a connection, by REST."""

    conn_name_attr = "mlflow_conn_id"
    default_conn_name = "mlflow_default"
    conn_type = "mlflow"
    hook_name = "MLflow"

    def __init__(self, mlflow_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.mlflow_conn_id = mlflow_conn_id

    def get_conn(self) -> MlflowRest:
        """Give a REST client for the connection."""
        return MlflowRest(tracking_server_from_connection(self.get_connection(self.mlflow_conn_id)))

    def test_connection(self) -> tuple[bool, str]:
        """Ask the server for one experiment; say what is wrong, and the remedy."""
        try:
            self.get_conn().get("experiments/get-by-name", {"experiment_name": "Default"})
        except (LineageError, SettingsError) as error:
            return False, str(error)
        return True, "MLflow answered."
