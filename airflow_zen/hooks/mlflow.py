"""The hook of Airflow connections of type `mlflow`."""

from __future__ import annotations

from airflow.sdk import BaseHook

from airflow_zen.errors import LineageError, SettingsError
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer


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
        return MlflowRest(TrackingServer.from_connection(self.get_connection(self.mlflow_conn_id)))

    def test_connection(self) -> tuple[bool, str]:
        """Request one experiment from the server; return whether it answered, and the error with its remedy."""
        try:
            self.get_conn().get("experiments/get-by-name", {"experiment_name": "Default"})
        except (LineageError, SettingsError) as error:
            return False, str(error)
        return True, "MLflow answered."
