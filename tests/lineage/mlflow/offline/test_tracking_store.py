"""Promises of `airflow_zen.lineage.mlflow.offline.tracking_store`: outside a step MLflow is as without us."""

import json
import socket
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import mlflow
import pytest
import requests
from mlflow.entities import RunTag
from mlflow.store.tracking.rest_store import RestStore
from mlflow.tracking.request_auth import registry
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from mlflow.utils.rest_utils import http_request

from airflow_zen.lineage.mlflow.offline import RELAY_VARIABLE
from airflow_zen.lineage.mlflow.offline.outbox import Outbox, decode_spans, encode_spans
from airflow_zen.lineage.mlflow.offline.relay import Relay
from airflow_zen.lineage.mlflow.offline.tracking_store import StepStore, open_store
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.runs.journal import RunJournal
from tests.servers.mlflow_server import tracked_at


def outbox_of(journal):
    outbox = Outbox(journal.directory / "outbox")
    outbox.directory.mkdir()
    return outbox


SERVER = TrackingServer("http://127.0.0.1:9", username="ann", password="hush", workspace="team")


@pytest.fixture
def relay(tmp_path, step, root):
    """A relay whose server is away."""
    journal = RunJournal.create(step(), root, tmp_path)
    relay = Relay(SERVER, outbox_of(journal), step())
    yield relay
    relay.close()


def test_methods():
    """Every method of the store is MLflow's own, except for three that give a step's code the step's run and experiment."""
    overridden = {name for name in vars(StepStore) if hasattr(RestStore, name) and not name.startswith(("__", "_abc"))}
    assert overridden == {"create_run", "get_experiment", "get_experiment_by_name"}


@pytest.mark.server
def test_outside_a_step(monkeypatch, server, dag_id):
    """Outside a step the same calls send the same requests as with MLflow's own store, to the server that was named."""
    sent = []
    send = requests.Session.send

    def record(session, request, **options):
        body = request.body or b"{}"
        sent.append((request.method, urlsplit(request.url), json.loads(body)))
        return send(session, request, **options)

    monkeypatch.delenv(RELAY_VARIABLE, raising=False)
    monkeypatch.setattr(requests.Session, "send", record)
    stores = [open_store(server.uri), RestStore(partial(get_default_host_creds, server.uri))]
    experiment = stores[1].create_experiment(dag_id, None, [])
    told, returned = [], []
    for store in stores:
        sent.clear()
        runs = [store.create_run(experiment, "ann", 1, [RunTag("a", "b")], name) for name in ("named", None)]
        found = [store.get_experiment(experiment), store.get_experiment_by_name(dag_id)]
        returned.append(
            [(run.info.run_name == "named", run.data.tags["a"]) for run in runs] + [vars(it) for it in found]
        )
        told.append(sent[:])
    assert told[0] == told[1]
    assert returned[0] == returned[1]
    assert {f"{url.scheme}://{url.netloc}" for _, url, _ in told[0]} == {server.uri}


@pytest.mark.server
def test_fluent_calls_outside_a_step(monkeypatch, server, dag_id):
    """Outside a step `mlflow.set_experiment` and `start_run` work where they say, in runs and experiments of their own."""
    monkeypatch.delenv(RELAY_VARIABLE, raising=False)
    with tracked_at(server.uri):
        chosen = mlflow.set_experiment(dag_id)
        with mlflow.start_run() as first:
            mlflow.log_metric("auc", 0.5)
            with mlflow.start_run(nested=True) as nested:
                pass
        with mlflow.start_run() as second:
            pass
    assert chosen.name == dag_id
    assert {run.info.experiment_id for run in (first, nested, second)} == {chosen.experiment_id}
    assert len({run.info.run_id for run in (first, nested, second)}) == 3
    assert nested.data.tags[MLFLOW_PARENT_RUN_ID] == first.info.run_id
    assert MLFLOW_PARENT_RUN_ID not in second.data.tags


def test_inside_a_step(monkeypatch, relay):
    """A store opened before the step asks the relay while that lasts, past any HTTP proxy; another server's does not."""
    mine, other = open_store(f"{SERVER.uri}/"), open_store("http://127.0.0.1:10")
    with monkeypatch.context() as patch:
        patch.setenv("HTTP_PROXY", "http://127.0.0.1:10")
        for name, value in relay.environment().items():
            patch.setenv(name, value)
        assert mine.get_run(relay.run_id).info.run_name == "train"
        assert mine.get_host_creds().host == f"{SERVER.uri}/"
        assert other.get_host_creds().host == "http://127.0.0.1:10"
    assert mine.get_host_creds().host == f"{SERVER.uri}/"


def test_experiment_of_the_code(monkeypatch, relay, caplog):
    """Another experiment is named in the log once for each step, by fluent and client calls; the run is in that of the DAG.

    The same holds for programs without this package, which send their requests to the relay as they are.
    """
    with tracked_at(SERVER.uri), monkeypatch.context() as patch:
        for name, value in relay.environment().items():
            patch.setenv(name, value)
        client = mlflow.MlflowClient()
        for _ in range(2):
            assert mlflow.set_experiment("mine").experiment_id == relay.experiment_id
            assert client.create_run("0", run_name="own").info.experiment_id == relay.experiment_id
        client.create_run(relay.experiment_id, run_name="own")
        plain = mlflow.MlflowClient(relay.environment()[RELAY_VARIABLE].split()[1])
        for experiment in [plain.create_experiment("theirs")] * 2:
            assert plain.create_run(experiment).info.experiment_id == relay.experiment_id
    said = [record.getMessage() for record in caplog.records if "respect_set_experiment" in record.getMessage()]
    assert [message.partition("asks for ")[2] for message in said] == [
        f"{wanted}. Set [zen] respect_set_experiment = True to use that." for wanted in ("'mine'", "'0'", "'theirs'")
    ]


def test_other_users_of_the_host(relay):
    """The relay takes nothing from who does not have the credentials of its server."""
    address = relay.environment()[RELAY_VARIABLE].split()[1]
    with pytest.raises(HTTPError, match="401"):
        urlopen(Request(f"{address}/api/2.0/mlflow/runs/get?run_id={relay.run_id}"))


class _EchoHandler(BaseHTTPRequestHandler):
    """Answer with the request's path and credentials, and count the requests."""

    def _echo(self):
        self.server.requests += 1
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"path": self.path, "seen": self.headers.get("Authorization")}).encode())

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _echo  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def echo():
    """A server that answers every request with what it was asked."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _EchoHandler) as http:
        http.requests = 0
        Thread(target=http.serve_forever, args=[0.01], daemon=True).start()
        yield http
        http.shutdown()


@pytest.fixture
def relay_to_echo(echo, tmp_path, step, root):
    """Return a relay to the echoing server, for a step that has or has not credentials."""
    relays = []

    def build(path="", **credentials):
        journal = RunJournal.create(step(), root, tmp_path)
        server = TrackingServer(f"http://127.0.0.1:{echo.server_port}{path}", **credentials)
        relays.append(Relay(server, outbox_of(journal), step(), {"run_id": "a" * 32, "experiment_id": "1"}))
        return relays[-1]

    yield build
    for relay in relays:
        relay.close()


def address_of(relay):
    return relay.environment()[RELAY_VARIABLE].split()[1]


def test_other_credentials_of_the_code(relay_to_echo):
    """A request with other credentials than the step's reaches the server with them, and its answer comes back."""
    address = address_of(relay_to_echo(username="ann", password="hush"))
    with urlopen(Request(f"{address}/api/2.0/mlflow/runs/get", headers={"Authorization": "Bearer other"})) as answer:
        assert json.load(answer)["seen"] == "Bearer other"


def test_long_answers(relay_to_echo, monkeypatch):
    """An answer that is longer than a bound is not held in memory; files of the server have a bound of their own."""
    address = address_of(relay_to_echo())
    file, search = f"{address}/api/2.0/mlflow-artifacts/artifacts/1/a.bin", f"{address}/api/2.0/mlflow/runs/search"
    monkeypatch.setattr("airflow_zen.lineage.mlflow.rest._MAX_ANSWER_BYTES", 20)
    with urlopen(file) as answer:
        assert len(answer.read()) > 20
    monkeypatch.setattr("airflow_zen.lineage.mlflow.rest._MAX_FILE_BYTES", 20)
    for url in (file, search):
        with pytest.raises(HTTPError, match="501") as refused:
            urlopen(url)
        assert "needs its answer" in refused.value.read().decode()


class _ChosenAuth:
    def get_name(self):
        return "chosen"

    def get_auth(self):
        return "bob", "secret"


@pytest.mark.parametrize(("auth", "seen"), [("", "Bearer abc"), ("chosen", "Basic Ym9iOnNlY3JldA==")])
def test_authentication_of_the_code(monkeypatch, relay_to_echo, auth, seen):
    """Requests of MLflow's client reach the server as without the relay: their path, and who they are from."""
    registered = [*registry._request_auth_provider_registry, _ChosenAuth()]
    monkeypatch.setattr(registry, "_request_auth_provider_registry", registered)
    relay = relay_to_echo("/base", token="abc")
    for name, value in {**relay.environment(), "MLFLOW_TRACKING_AUTH": auth}.items():
        monkeypatch.setenv(name, value)
    store = open_store(relay.environment()["MLFLOW_TRACKING_URI"])
    relayed = []
    monkeypatch.setattr(relay, "answer", lambda *request: relayed.append(request) or Relay.answer(relay, *request))
    response = http_request(store.get_host_creds(), "/version?a=b%20c", "GET")
    assert response.json() == {"path": "/base/version?a=b%20c", "seen": seen}
    assert len(relayed) == 1


@pytest.mark.parametrize("token", ["", "/", "/wrong", "/{other}", "/{right}x", "/{start}", "/api/{right}", "//{right}"])
def test_requests_without_the_token(relay_to_echo, echo, token):
    """A request without the token of the relay's address is refused with nothing said, and never reaches the server."""
    relay, other = relay_to_echo(), relay_to_echo()
    assert relay.token != other.token
    path = token.format(right=relay.token, other=other.token, start=relay.token[:-1])
    url = f"http://127.0.0.1:{relay.server_address[1]}{path}/api/2.0/mlflow/runs/get"
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]:
        with pytest.raises(HTTPError, match="404") as refused:
            urlopen(Request(url, method=method))
        assert refused.value.read() == b""
    assert echo.requests == 0


def test_content_without_the_token(relay_to_echo, echo):
    """Content of a request without the token is not read, however much is announced; the relay goes on serving."""
    relay = relay_to_echo()
    with socket.create_connection(relay.server_address) as stranger:
        stranger.sendall(b"POST /api/2.0/mlflow/runs/create HTTP/1.1\r\nContent-Length: 1000000000000\r\n\r\n{}")
        assert stranger.recv(100).startswith(b"HTTP/1.0 404 ")
    assert echo.requests == 0
    with urlopen(f"{address_of(relay)}/version") as answer:
        assert json.load(answer)["path"] == "/version"


def test_requests_with_the_token(relay_to_echo):
    """The server gets the request that the token came with, of any method, and not the token."""
    address, path = address_of(relay_to_echo()), "/api/2.0/mlflow-artifacts/artifacts/a%20b?path=c"
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"]:
        with urlopen(Request(address + path, method=method)) as answer:
            assert json.load(answer)["path"] == path


def test_silence_before_the_token(relay_to_echo, monkeypatch, caplog):
    """Who connects and says nothing is disconnected, without a word in the step's log; the relay goes on serving."""
    monkeypatch.setattr("airflow_zen.lineage.mlflow.offline.relay._FIRST_LINE_SECONDS", 0.1)
    relay = relay_to_echo()
    with socket.create_connection(relay.server_address) as stranger:
        stranger.settimeout(60)
        assert stranger.recv(100) == b""
    with urlopen(f"{address_of(relay)}/version") as answer:
        assert json.load(answer)["path"] == "/version"
    assert caplog.messages == []


def test_parameter_that_contradicts_the_step(relay, caplog):
    """Another value for a parameter of the step gets a name of its own, which the log says once for each parameter."""
    address = address_of(relay)
    relay._parameters, relay._rest._headers = {"depth": "8"}, {}
    for value in ("8", "9", "9"):
        entry = {"run_id": relay.run_id, "key": "depth", "value": value}
        urlopen(Request(f"{address}/api/2.0/mlflow/runs/log-parameter", json.dumps(entry).encode())).close()
    logged = [(each.body["key"], each.body["value"]) for each in relay._outbox.logged()]
    assert logged == [("depth", "8"), ("logged.depth", "9"), ("logged.depth", "9")]
    assert [line for line in caplog.messages if "logged.depth" in line] == [
        "MLflow changes no parameter, and the step's own 'depth' is '8': what its code logs, '9', is 'logged.depth'."
    ]


def test_spans_are_encoded_only_to_be_kept(relay_to_echo, relay, monkeypatch):
    """Spans that the server takes are passed on as they are; only those of an outage are encoded for the outbox."""
    encoded = []
    encode = "airflow_zen.lineage.mlflow.offline.relay.encode_spans"
    monkeypatch.setattr(encode, lambda headers, content: encoded.append(content) or encode_spans(headers, content))
    relay._rest._headers = {}
    for each in (relay_to_echo(), relay):
        urlopen(Request(f"{address_of(each)}/v1/traces", b"spans", {"Content-Type": "application/x-protobuf"})).close()
    assert encoded == [b"spans"]
    (kept,) = relay._outbox.logged()
    assert decode_spans(kept.body)[0] == b"spans"


def test_the_token_is_only_in_the_address(relay):
    """No other variable of the step's environment holds the token, and it is long enough not to be guessed."""
    assert [name for name, value in relay.environment().items() if relay.token in value] == [RELAY_VARIABLE]
    assert len(relay.token) >= 43


def test_after_a_step(relay):
    """When the step has ended nothing listens any more."""
    relay.close()
    with pytest.raises(ConnectionRefusedError):
        while True:
            # A connection that waits while the port is closed is reset.
            with suppress(ConnectionResetError):
                socket.create_connection(relay.server_address).close()
