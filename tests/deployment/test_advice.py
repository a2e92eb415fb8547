"""Promises of errors of deployments: what an error advises is done, and the next call works."""

import json
from pathlib import Path

import airflow_zen
from airflow_zen import MLflowModel
from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.deployment import KServe
from airflow_zen.deployment.base import log_token
from airflow_zen.deployment.cluster.objects import Objects
from airflow_zen.deployment.cluster.target import ModelSource
from airflow_zen.deployment.step import DeploymentOptions, prepare_model, read_token
from tests.advice import advice_of

KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "here",
    "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "models"}}],
    "clusters": [{"name": "here", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "me", "user": {}}],
}


def test_the_connection_of_a_cluster(monkeypatch, tmp_path):
    """Without a cluster to be found the error names the connection, which then gives access to its namespace."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("AIRFLOW_CONN_CLUSTER", json.dumps({"conn_type": "kubernetes"}))
    target = KServe(kubernetes="cluster")
    (name,) = advice_of(lambda: Objects(target), r"finds no cluster: .*Set up the connection '(\w+)'\.$")
    extra = {"kube_config": json.dumps(KUBECONFIG), "namespace": "models"}
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    assert Objects(target).namespace == "models"


def test_the_password_of_a_connection(monkeypatch):
    """A connection for the clients' token that has no password is refused; with the token as its password it is read."""
    monkeypatch.setenv("AIRFLOW_CONN_CLIENTS", json.dumps({"conn_type": "http"}))
    advice_of(lambda: read_token("clients"), r"'clients' has no password: set it to the token that clients send\.$")
    monkeypatch.setenv("AIRFLOW_CONN_CLIENTS", json.dumps({"conn_type": "http", "password": "token"}))
    assert read_token("clients") == "token"


def test_the_token_of_a_logger(monkeypatch):
    """A logger's URL with a token is refused without a connection for that of clients; with it the URL has the token."""
    target = KServe(kubernetes="cluster", logger="http://gateway/log?token={token}")

    def body(**options):
        token = read_token(DeploymentOptions(name="a", model="m", **options).token_conn_id)
        return target.body("a", ModelSource("s3://a", names={"token": log_token(token)}))

    (option,) = advice_of(body, r"is derived from that of clients: set (token_conn_id)\.$")
    monkeypatch.setenv("AIRFLOW_CONN_CLIENTS", json.dumps({"conn_type": "http", "password": "secret"}))
    assert f"token={log_token('secret')}" in json.dumps(body(**{option: "clients"}))


def test_a_folder_that_is_a_model(monkeypatch, tmp_path):
    """An artifact that is no MLflow Model is not deployed; wrapped as the error says, the same folder is."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    directory, stack = tmp_path / "model", open_stack(Settings.read())
    directory.mkdir()
    (directory / "MLmodel").write_text("flavors: {python_function: {loader_module: mlflow.sklearn}}\n")
    folders = (tmp_path / str(number) for number in range(2))

    def prepare(value):
        into = next(folders)
        into.mkdir()
        return prepare_model(airflow_zen.save(value), stack, into, {}, None)

    (wrapped,) = advice_of(lambda: prepare([1]), r"return airflow_zen\.(MLflowModel\(directory\)) from its step")
    prepared = prepare(eval(wrapped, {"MLflowModel": MLflowModel, "directory": directory}))
    assert "python_function" in Path(prepared, "MLmodel").read_text()
