"""Promises of `airflow_zen.lineage.mlflow.rest` and its connection, against servers that fail in every way."""

import base64
import datetime as dt
import http.server
import json
import ssl
import threading
import time
from contextlib import suppress

import pytest

from airflow_zen.errors import LineageError
from airflow_zen.lineage.mlflow.errors import MlflowRejected, MlflowUnavailable
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.transports.timeouts import Timeouts
from tests.advice import advice_of
from tests.servers.mlflow_server import mlflow_server
from tests.servers.process import free_port


class Scripted(http.server.ThreadingHTTPServer):
    """Answer every request with the next of `answers`, and then always with the last; `asked` collects the requests."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = [(200, b"{}", {})]
        self.asked = []
        self.connections = 0
        self.uri = f"http://127.0.0.1:{self.server_port}"

    def says(self, *answers):
        self.answers = [(status, body, dict(headers)) for status, body, *headers in answers]

    def get_request(self):
        self.connections += 1
        return super().get_request()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, dict(self.headers), body))
        status, answer, headers = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(answer)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_PATCH = do_PUT = do_GET  # noqa: N815 - http.server's names

    def log_message(self, *_):
        pass


@pytest.fixture
def scripted():
    with Scripted() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


def test_one_connection_is_kept(scripted):
    """Consecutive requests use one connection."""
    rest = MlflowRest(TrackingServer(scripted.uri))
    for _ in range(3):
        rest.get("experiments/get", {"experiment_id": "0"})
    assert scripted.connections == 1
    assert scripted.asked[0][:2] == ("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0")


def test_an_idle_connection_is_replaced(scripted):
    """A connection that was idle for longer than the server keeps it open is not used again."""
    now = [0.0]
    rest = MlflowRest(TrackingServer(scripted.uri), clock=lambda: now[0])
    for now[0] in (0.0, 2.0, 6.0):
        rest.get("experiments/get")
    assert scripted.connections == 2


def test_a_dropped_connection_is_replaced_once(scripted):
    """A request on a connection that the server dropped is sent again on a new one."""
    scripted.says((200, b"{}"), (0, b""), (200, b'{"a": 1}'))
    rest = MlflowRest(TrackingServer(scripted.uri))
    rest.get("x")
    assert rest.post("y", {"é": "ü"}) == {"a": 1}
    assert json.loads(scripted.asked[-1][3]) == {"é": "ü"}


def test_a_base_path_is_kept(scripted):
    """The path of a tracking URI is the prefix of every request."""
    MlflowRest(TrackingServer(f"{scripted.uri}/ml/flow/")).request("PATCH", "logged-models/m-1", {})
    assert scripted.asked[0][:2] == ("PATCH", "/ml/flow/api/2.0/mlflow/logged-models/m-1")


@pytest.mark.parametrize(
    ("credentials", "expected"),
    [
        ({"username": "ann", "password": "ü"}, "Basic " + base64.b64encode("ann:ü".encode()).decode()),
        ({"token": "t"}, "Bearer t"),
        ({}, None),
    ],
)
def test_credentials_are_sent(scripted, credentials, expected):
    """User and password, or a token, go with every request, as MLflow's client sends them."""
    MlflowRest(TrackingServer(scripted.uri, workspace="team", **credentials)).get("x")
    headers = scripted.asked[0][2]
    assert (headers.get("Authorization"), headers["X-MLFLOW-WORKSPACE"]) == (expected, "team")


@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        ((403, b"Invalid Host header - possible DNS rebinding attack detected"), "--allowed-hosts"),
        ((401, b"You are not authenticated."), "MLFLOW_TRACKING_USERNAME"),
        ((403, b"Permission denied"), "edit permission"),
        ((302, b"", ("Location", "https://mlflow.example/")), r"Use 'https://mlflow.example/'"),
        ((200, b"<html>Sign in</html>"), "whether an MLflow server"),
        ((503, b"no upstream"), "Start MLflow"),
    ],
)
def test_errors_name_the_remedy(scripted, answer, remedy):
    """The error for a response that is not a success names the remedy."""
    scripted.says(answer)
    with pytest.raises(MlflowRejected, match=remedy) as refused:
        MlflowRest(TrackingServer(scripted.uri)).post("runs/create", {})
    assert isinstance(refused.value, LineageError)


@pytest.mark.server
def test_the_server_of_a_database(tmp_path):
    """A database or a folder instead of a server is an error; the server whose command it has answers, and lists nothing."""
    folder, database = (
        advice_of(
            lambda uri=uri: MlflowRest(TrackingServer(uri)).get("x"),
            r"Run `mlflow server --backend-store-uri (\S+)` and use its http:// address as the tracking URI\.",
        )[0]
        for uri in ("./mlruns", f"sqlite:///{tmp_path}/mlflow.db")
    )
    assert database == folder.replace("///", f"///{tmp_path}/")
    with mlflow_server(tmp_path / "server", backend=database) as server:
        assert MlflowRest(TrackingServer(server.uri)).post("runs/search", {"experiment_ids": ["0"]}) == {}


def test_the_error_code_of_mlflow_is_kept(scripted):
    """An error has MLflow's own error code."""
    scripted.says((404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no run"}'))
    with pytest.raises(MlflowRejected, match="no run") as refused:
        MlflowRest(TrackingServer(scripted.uri)).get("runs/get")
    assert (refused.value.error_code, refused.value.status, refused.value.is_missing) == (
        "RESOURCE_DOES_NOT_EXIST",
        404,
        True,
    )


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "file:///tmp/mlruns", "databricks", ""])
def test_a_database_is_not_a_server(uri):
    """A tracking URI without a server is refused, with the command that starts one."""
    with pytest.raises(LineageError, match="mlflow server"):
        MlflowRest(TrackingServer(uri)).get("x")


def test_a_refused_connection():
    """A refused connection is an error at once, and later requests fail without another attempt."""
    rest = MlflowRest(TrackingServer(f"http://127.0.0.1:{free_port()}"))
    for _ in range(2):
        with pytest.raises(MlflowUnavailable, match="Start the server"):
            rest.get("x")
    assert (rest.request_count, rest.is_unavailable) == (1, True)


def test_an_unknown_host():
    """The error for an unknown host name says so."""
    with pytest.raises(MlflowUnavailable, match="unknown"):
        MlflowRest(TrackingServer("http://mlflow.invalid:5000")).get("x")


def test_an_answer_that_does_not_come(scripted, monkeypatch):
    """A request fails when its answer does not arrive in time."""
    given_up = threading.Event()
    monkeypatch.setattr(_Handler, "do_GET", lambda self: given_up.wait(60))
    try:
        with pytest.raises(MlflowUnavailable, match="did not answer in time"):
            MlflowRest(TrackingServer(scripted.uri), Timeouts(read=0.2)).get("x")
    finally:
        given_up.set()


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"], ids=["headers", "body"])
@pytest.mark.parametrize("kept", [False, True])
def test_an_answer_that_dribbles(scripted, monkeypatch, begin, kept):
    """A request fails when its whole answer does not arrive in time, though each of its bytes does."""

    def dribble(self):
        self.close_connection = True
        with suppress(OSError):
            self.wfile.write(begin)
            for _ in range(500):
                self.wfile.write(b"x")
                time.sleep(0.02)

    rest = MlflowRest(TrackingServer(scripted.uri), Timeouts(read=5, answer=0.3))
    if kept:
        rest.get("x")
    monkeypatch.setattr(_Handler, "do_GET", dribble)
    began = time.monotonic()
    with pytest.raises(MlflowUnavailable, match="0.3 s for a whole answer"):
        rest.get("x")
    assert time.monotonic() - began < 5
    assert rest.is_unavailable


def test_an_answer_without_end(scripted, monkeypatch):
    """Of an answer that is too large no more than the limit is read."""
    sent = []

    def flood(self):
        self.close_connection = True
        with suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            sent.extend(self.wfile.write(b"x" * 2**20) for _ in range(3000))

    monkeypatch.setattr(_Handler, "do_GET", flood)
    with pytest.raises(MlflowUnavailable, match="answered GET /api/2.0/mlflow/x with more than 64 MiB"):
        MlflowRest(TrackingServer(scripted.uri)).get("x")
    assert 64 <= sum(sent) / 2**20 < 80


def test_slow_answers_have_a_budget(scripted):
    """A server is treated as unavailable once its slow answers have used up the budget."""
    rest = MlflowRest(TrackingServer(scripted.uri), clock=lambda: 4.0 * len(scripted.asked))
    for _ in range(5):
        rest.get("x")
    rest.limit_slow_responses(10.0)
    for _ in range(3):
        rest.get("x")
    with pytest.raises(MlflowUnavailable, match="answers slowly"):
        rest.get("x")
    assert rest.request_count == 8


def test_quick_answers_use_no_budget(scripted):
    """Quick answers use none of the budget, however many there are."""
    rest = MlflowRest(TrackingServer(scripted.uri), clock=lambda: 0.9 * len(scripted.asked))
    rest.limit_slow_responses(2.0)
    for _ in range(20):
        rest.get("x")
    assert not rest.is_unavailable


def test_several_threads_do_not_mix_answers(scripted, monkeypatch):
    """Requests of several threads each get their own answer."""

    def echo(handler):
        text = json.dumps({"path": handler.path}).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    monkeypatch.setattr(_Handler, "do_GET", echo)
    rest = MlflowRest(TrackingServer(scripted.uri))
    answers = {}
    threads = [threading.Thread(target=lambda n=n: answers.update({n: rest.get(f"x/{n}")})) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {n: {"path": f"/api/2.0/mlflow/x/{n}"} for n in range(16)}


@pytest.fixture
def tls(scripted, tmp_path):
    """Configure the server with a self-signed certificate; return the CA file that trusts it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    scripted.socket = context.wrap_socket(scripted.socket, server_side=True)
    scripted.uri = f"https://localhost:{scripted.server_port}"
    return str(pem)


def test_https_with_a_ca_bundle(scripted, tls):
    """A server whose certificate is signed by the given CA is reached over TLS."""
    assert MlflowRest(TrackingServer(scripted.uri, ca_bundle=tls, client_certificate=tls)).get("x") == {}


def test_https_unverified(scripted, tls):
    """Verification can be disabled, as in MLflow's client."""
    assert MlflowRest(TrackingServer(scripted.uri, verify_tls=False)).get("x") == {}


def test_https_untrusted(scripted, tls):
    """An untrusted certificate is refused, and the error names the variable for a CA."""
    with pytest.raises(MlflowUnavailable, match="MLFLOW_TRACKING_SERVER_CERT_PATH"):
        MlflowRest(TrackingServer(scripted.uri)).get("x")


def test_a_missing_ca_file(scripted, tls):
    """The error for unreadable TLS files names them."""
    with pytest.raises(LineageError, match=r"/nowhere/ca\.pem"):
        MlflowRest(TrackingServer(scripted.uri, ca_bundle="/nowhere/ca.pem")).get("x")
