"""Promises of `airflow_zen.hooks.mlflow`."""

import pytest
from airflow.sdk import Connection

from airflow_zen.errors import SettingsError
from airflow_zen.lineage.mlflow.server import TrackingServer


@pytest.mark.parametrize(
    ("given", "uri"),
    [
        ({"host": "http://mlflow:5000/"}, "http://mlflow:5000"),
        ({"host": "https://mlflow.example.com", "port": 5000}, "https://mlflow.example.com:5000"),
        ({"host": "https://mlflow.example.com:443/tracking", "port": 5000}, "https://mlflow.example.com:443/tracking"),
        ({"host": "https://mlflow.example.com/tracking", "port": 5000}, "https://mlflow.example.com:5000/tracking"),
        ({"host": "mlflow", "schema": "https", "port": 5000}, "https://mlflow:5000"),
        ({"host": "mlflow"}, "http://mlflow"),
        ({"host": "http://[::1]", "port": 5000}, "http://[::1]:5000"),
    ],
)
def test_the_address(given, uri):
    """The address is that of the host field; the schema and port fields add what it lacks."""
    assert TrackingServer.from_connection(Connection(conn_id="lineage", conn_type="mlflow", **given)).uri == uri


def test_no_host():
    """A connection without a host is refused with an example."""
    with pytest.raises(SettingsError, match="'lineage' has no host. Enter one such as http://mlflow:5000"):
        TrackingServer.from_connection(Connection(conn_id="lineage", conn_type="mlflow", port=5000))
