"""Promises of `airflow_zen.lineage.mlflow.offline.tracking_store`: outside a step MLflow is as without us."""

import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from mlflow.store.tracking.rest_store import RestStore

from airflow_zen.lineage.mlflow.journal import RunJournal
from airflow_zen.lineage.mlflow.offline import RELAY_VARIABLE
from airflow_zen.lineage.mlflow.offline.relay import Relay
from airflow_zen.lineage.mlflow.offline.tracking_store import open_store
from airflow_zen.lineage.mlflow.server import TrackingServer

SERVER = TrackingServer("http://127.0.0.1:9", username="ann", password="hush", workspace="team")


@pytest.fixture
def relay(tmp_path, step, root):
    """A relay whose server is away."""
    journal = RunJournal.create(step(), root, tmp_path)
    relay = Relay(SERVER, journal.outbox, step())
    yield relay
    relay.close()


def test_outside_a_step(monkeypatch):
    """The store is MLflow's own, and asks the server that its address names."""
    monkeypatch.delenv(RELAY_VARIABLE, raising=False)
    store = open_store(SERVER.uri)
    assert type(store) is RestStore
    assert store.get_host_creds().host == SERVER.uri


def test_inside_a_step(monkeypatch, relay):
    """A store opened before the step asks the relay while that lasts, past any HTTP proxy; another server's does not."""
    mine, other = open_store(f"{SERVER.uri}/"), open_store("http://127.0.0.1:10")
    with monkeypatch.context() as patch:
        patch.setenv("HTTP_PROXY", "http://127.0.0.1:10")
        for name, value in relay.environment().items():
            patch.setenv(name, value)
        assert mine.get_run(relay.run_id).info.run_name == "train"
        assert other.get_host_creds().host == "http://127.0.0.1:10"
    assert mine.get_host_creds().host == f"{SERVER.uri}/"


def test_other_users_of_the_host(relay):
    """The relay takes nothing from who does not have the credentials of its server."""
    address = relay.environment()[RELAY_VARIABLE].split()[1]
    with pytest.raises(HTTPError, match="401"):
        urlopen(Request(f"{address}/api/2.0/mlflow/runs/get?run_id={relay.run_id}"))


class _EchoHandler(BaseHTTPRequestHandler):
    """Answer with the request's credentials."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"seen": self.headers.get("Authorization")}).encode())

    def log_message(self, *_):
        pass


def test_other_credentials_of_the_code(tmp_path, step, root):
    """A request with other credentials than the step's reaches the server with them, and its answer comes back."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _EchoHandler) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        server = TrackingServer(f"http://127.0.0.1:{http.server_port}", username="ann", password="hush")
        journal = RunJournal.create(step(), root, tmp_path)
        relay = Relay(server, journal.outbox, step(), {"run_id": "a" * 32, "experiment_id": "1"})
        address = relay.environment()[RELAY_VARIABLE].split()[1]
        with urlopen(
            Request(f"{address}/api/2.0/mlflow/runs/get", headers={"Authorization": "Bearer other"})
        ) as answer:
            assert json.load(answer) == {"seen": "Bearer other"}
        relay.close()
        http.shutdown()


def test_after_a_step(relay):
    """When the step has ended nothing listens any more."""
    relay.close()
    with pytest.raises(ConnectionRefusedError):
        while True:
            socket.create_connection(relay.server_address).close()
