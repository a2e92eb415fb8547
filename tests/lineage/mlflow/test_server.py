"""Promises of `airflow_zen.lineage.mlflow.server`."""

from airflow_zen.lineage.mlflow.server import TrackingServer

ENVIRONMENT = {
    "MLFLOW_TRACKING_USERNAME": "ann",
    "MLFLOW_TRACKING_PASSWORD": "hush",
    "MLFLOW_TRACKING_TOKEN": "hush2",
    "MLFLOW_TRACKING_SERVER_CERT_PATH": "/ca.pem",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH": "/me.pem",
    "MLFLOW_WORKSPACE": "team",
}


def test_the_environment_is_passed_on():
    """The variables of MLflow's client are read, and passed to user code unchanged."""
    given = TrackingServer.from_environment("http://m:5000/", ENVIRONMENT).environment()
    assert {name: given[name] for name in ENVIRONMENT} == ENVIRONMENT
    assert given["MLFLOW_TRACKING_URI"] == "http://m:5000"


def test_user_code_does_not_wait_for_minutes():
    """MLflow's client in user code gets short timeouts, unless the deployment sets its own."""
    assert TrackingServer("http://m").environment()["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    chosen = TrackingServer.from_environment("http://m", {"MLFLOW_HTTP_REQUEST_TIMEOUT": "60"})
    assert chosen.environment()["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "60"


def test_insecure_tls():
    """Disabled verification is passed on without the CA bundle, which MLflow's client would refuse beside it."""
    server = TrackingServer.from_environment("https://m", {**ENVIRONMENT, "MLFLOW_TRACKING_INSECURE_TLS": "true"})
    assert not server.verify_tls
    assert server.environment()["MLFLOW_TRACKING_INSECURE_TLS"] == "true"
    assert "MLFLOW_TRACKING_SERVER_CERT_PATH" not in server.environment()


def test_secrets_are_not_shown():
    """Neither password nor token is in the repr, and credentials are removed from the address."""
    server = TrackingServer("https://ann:hush%40@m:5000/base", token="hush2")
    assert (server.uri, server.username, server.password) == ("https://m:5000/base", "ann", "hush@")
    assert "hush" not in repr(server)


def test_pages_use_the_address_for_browsers():
    """Links use the address that browsers can reach, in MLflow's classic view."""
    server = TrackingServer("http://mlflow:5000", ui="https://ml.example/")
    assert server.run_url("1", "r") == "https://ml.example/#/experiments/1/runs/r?workflowType=machine_learning"
    assert TrackingServer("http://m").run_url("1", "r").startswith("http://m/#/experiments/1/runs/r")
