"""A client of MLflow's REST API and of the addresses of its files, on the standard library.

Importing MLflow's own client takes 2 s of CPU.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import msgspec

from airflow_zen.errors import LineageError
from airflow_zen.lineage.mlflow.errors import MlflowRejected, MlflowUnavailable, error_from_response
from airflow_zen.transports.base import run_in_parallel
from airflow_zen.transports.timeouts import Timeouts

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.server import TrackingServer

# The operating system sends a lost first packet again after 1 s.
MLFLOW_TIMEOUTS = Timeouts(connect=1.2, read=5.0, answer=10.0)

# A page of 100 runs with many long tags has some megabytes; files go through the server where it stores them itself.
_MAX_ANSWER_BYTES, _MAX_FILE_BYTES = 64 * 1024 * 1024, 1024 * 1024 * 1024

# MLflow's web server closes a connection that was idle for 5 s.
_IDLE_SECONDS = 3.0

_DROPPED_ERRORS = (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected, http.client.CannotSendRequest)

API = "/api/2.0/mlflow/"
SPANS = "/v1/traces"
TRACES = "/api/3.0/mlflow/traces"
SET_VERSION_TAG = "model-versions/set-tag"
_ARTIFACT_PROXY = "/api/2.0/mlflow-artifacts/artifacts/"

# Each of these creates another entity when it is sent again.
_NON_IDEMPOTENT_PATHS = frozenset(API + path for path in ("runs/create", "logged-models", "model-versions/create"))

# An answer is slow when it takes longer, in seconds.
_SLOW_SECONDS = 1.0

# MLflow may need longer for more runs than we wait for an answer.
_RUNS_PER_PAGE = 100


class HttpResponse(msgspec.Struct, frozen=True):
    """A response: HTTP status, body, and the address of a redirect."""

    status: int
    body: bytes
    location: str = ""


class MlflowRest:
    """Send requests to one MLflow server; safe to use from several threads, each on its own connection.

    After the server was unavailable once, every later request fails at once with `MlflowUnavailable`.

    timeouts: how long to wait for the server. retry_after: seconds after which an unavailable server is tried again,
    for a process that must survive an outage; None: never. clock: returns monotonic seconds.
    """

    def __init__(
        self,
        server: TrackingServer,
        timeouts: Timeouts = MLFLOW_TIMEOUTS,
        retry_after: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.server = server
        self.request_count = 0
        self._timeouts = timeouts
        self._clock = clock
        self._retry_after = retry_after
        self._outage: tuple[float, MlflowUnavailable] | None = None
        self._slow_budget: float | None = None
        self._idle: list[_KeepAliveConnection] = []
        self._lock = threading.Lock()
        self._base = urlsplit(server.uri).path.rstrip("/")
        self._headers = _headers(server)

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Read an entity; lists in `query` become repeated keys."""
        return self.request("GET", f"{path}?{urlencode(query, doseq=True)}" if query else path)

    def find(self, path: str, query: Mapping[str, Any]) -> dict[str, Any] | None:
        """Read an entity; return None where it does not exist."""
        try:
            return self.get(path, query)
        except MlflowRejected as error:
            if error.is_missing:
                return None
            raise

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create, change or search entities."""
        return self.request("POST", path, body)

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a request to the tracking API and return the answer. Raises `MlflowUnavailable` or `MlflowRejected`.

        A path without a leading slash follows `/api/2.0/mlflow/`.
        """
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode(errors="replace")
        path = path if path.startswith("/") else API + path
        answer = self._send(method, path, content, {"Content-Type": "application/json; charset=utf-8"})
        try:
            document = json.loads(answer.body or b"{}")
        except ValueError as error:
            raise MlflowRejected(
                f"{self.server.uri!r} did not answer {method} {path} in JSON. Check whether an MLflow server, and "
                "not a login page or another site, is at this address.",
                answer.status,
            ) from error
        return document if isinstance(document, dict) else {}

    def paginate(
        self, path: str, search: Mapping[str, Any], name: str, method: str = "POST"
    ) -> Iterator[dict[str, Any]]:
        """Yield what a search finds under `name`; each page is requested when it is needed."""
        page: dict[str, Any] = dict(search)
        while True:
            answer = self.post(path, page) if method == "POST" else self.get(path, page)
            yield from answer.get(name, [])
            if not answer.get("next_page_token"):
                return
            page["page_token"] = answer["next_page_token"]

    def search_runs(self, experiments: str | list[str], condition: str, *order_by: str) -> Iterator[dict[str, Any]]:
        """Yield the runs of one experiment or several that match a filter; one request for each 100."""
        ids = [experiments] if isinstance(experiments, str) else experiments
        search = {"experiment_ids": ids, "filter": condition, "max_results": _RUNS_PER_PAGE}
        return self.paginate("runs/search", search | ({"order_by": order_by} if order_by else {}), "runs")

    def version(self) -> str:
        """Return the server's version."""
        return self._send("GET", "/version").body.decode(errors="replace").strip()

    def send_trace(self, spans: Mapping[str, Any], experiment_id: str, run_id: str) -> None:
        """Send spans, as OTLP JSON, to an experiment, linked to a run."""
        headers = {"x-mlflow-experiment-id": experiment_id, "x-mlflow-run-id": run_id}
        self.send_spans(json.dumps(spans).encode(), {"Content-Type": "application/json", **headers})

    def send_spans(self, content: bytes, headers: Mapping[str, str]) -> None:
        """Send spans in one of OTLP's encodings."""
        self._send("POST", SPANS, content, headers)

    def upload(self, artifact_uri: str, names: Iterable[str], read: Callable[[str], bytes]) -> None:
        """Store files by name under an address through the server's artifact proxy."""
        folder = _ARTIFACT_PROXY + urlsplit(artifact_uri).path.strip("/")
        headers = {"Content-Type": "application/octet-stream"}
        run_in_parallel(lambda name: self._send("PUT", f"{folder}/{name}", read(name), headers), names)

    def forward(self, method: str, target: str, headers: Mapping[str, str], content: bytes | None) -> HttpResponse:
        """Send a request unchanged; return any answer up to 64 MiB (a file: 1 GiB). Raises `MlflowUnavailable`."""
        max_bytes = _MAX_FILE_BYTES if target.startswith(_ARTIFACT_PROXY) else _MAX_ANSWER_BYTES
        with self._connection() as connection:
            self.request_count += 1
            at_most_once = target in _NON_IDEMPOTENT_PATHS
            return connection.send(method, self._base + target, content or None, headers, max_bytes, at_most_once)

    def close(self) -> None:
        """Close all idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def limit_slow_responses(self, seconds: float) -> None:
        """Treat the server as unavailable once slow answers have taken this many seconds in total from now on."""
        self._slow_budget = seconds

    @property
    def is_unavailable(self) -> bool:
        """Whether requests fail at once because the server was unavailable."""
        if self._outage and self._retry_after is not None and self._clock() - self._outage[0] >= self._retry_after:
            self._outage = None
        return self._outage is not None

    @property
    def authorization(self) -> str:
        """The value of the `Authorization` header; empty without credentials."""
        return self._headers.get("Authorization", "")

    def _send(
        self, method: str, path: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        if self.is_unavailable and self._outage:
            raise self._outage[1]
        sent_headers = self._headers if content is None else {**self._headers, **(headers or {})}
        began = self._clock()
        try:
            answer = self.forward(method, path, sent_headers, content)
        except MlflowUnavailable as error:
            self._outage = (self._clock(), error)
            raise
        seconds = self._clock() - began
        if self._slow_budget is not None and seconds >= _SLOW_SECONDS:
            self._slow_budget -= seconds
            if self._slow_budget <= 0:
                message = f"MLflow at {self.server.uri!r} answers slowly. Check whether it is overloaded."
                self._outage = (self._clock(), MlflowUnavailable(message))
        if not 200 <= answer.status < 300:
            request = f"{method} {path.split('?', maxsplit=1)[0]}"
            raise error_from_response(self.server.uri, request, answer.status, answer.body, answer.location)
        return answer

    @contextmanager
    def _connection(self) -> Iterator[_KeepAliveConnection]:
        with self._lock:
            kept = self._idle.pop() if self._idle else None
        connection = kept or _KeepAliveConnection(self.server, self._timeouts, self._clock)
        try:
            yield connection
        finally:
            with self._lock:
                self._idle.append(connection)


def _headers(server: TrackingServer) -> dict[str, str]:
    headers = {"Accept": "application/json", "User-Agent": "airflow-zen"}
    if server.username and server.password:
        pair = base64.b64encode(f"{server.username}:{server.password}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    elif server.token:
        headers["Authorization"] = f"Bearer {server.token}"
    if server.workspace:
        headers["X-MLFLOW-WORKSPACE"] = server.workspace
    return headers


class _KeepAliveConnection:
    """Send requests over one connection, one at a time; replace a connection that the server has dropped."""

    def __init__(self, server: TrackingServer, timeouts: Timeouts, clock: Callable[[], float]) -> None:
        self._server = server
        self._timeouts = timeouts
        self._clock = clock
        self._open: http.client.HTTPConnection | None = None
        self._used = 0.0

    def send(
        self,
        method: str,
        path: str,
        content: bytes | None,
        headers: Mapping[str, str],
        max_bytes: int,
        at_most_once: bool,
    ) -> HttpResponse:
        """Send one request and return the response.

        A request on a dropped connection is sent again on a new one, unless it must arrive at most once: the server may
        have processed it although the response is lost. Raises `MlflowUnavailable` when the server does not accept the
        connection, does not respond in time, or responds with more than `max_bytes`.
        """
        try:
            if connection := self._reusable_connection():
                with suppress(*(() if at_most_once else _DROPPED_ERRORS)):
                    return self._exchange(connection, max_bytes, method, path, content, headers)
                self.close()
            self._open = connection = _new_connection(self._server, self._timeouts.connect)
            connection.connect()
            return self._exchange(connection, max_bytes, method, path, content, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if isinstance(error, LineageError):
                raise
            raise MlflowUnavailable(_unreachable_message(self._server.uri, self._timeouts, error)) from error

    def close(self) -> None:
        """Close the connection."""
        if self._open:
            self._open.close()
        self._open = None

    def _reusable_connection(self) -> http.client.HTTPConnection | None:
        """Return the open connection, unless it was idle for too long or the server has closed it."""
        if self._open:
            is_idle = self._clock() - self._used >= _IDLE_SECONDS
            # The socket of a closed connection is readable although nothing was requested.
            if is_idle or self._open.sock is None or select.select([self._open.sock], [], [], 0)[0]:
                self.close()
        return self._open

    def _exchange(self, connection: http.client.HTTPConnection, max_bytes: int, *request: Any) -> HttpResponse:
        connection.sock.settimeout(self._timeouts.read)
        connection.response_class = partial(_DeadlineResponse, timeouts=self._timeouts)  # type: ignore[assignment]
        connection.request(*request)
        response = connection.getresponse()
        body = response.read(max_bytes + 1)
        if len(body) > max_bytes:
            self.close()
            raise MlflowUnavailable(
                f"MLflow at {self._server.uri!r} answered {request[0]} {request[1].split('?')[0]} with more than "
                f"{max_bytes >> 20} MiB. Check whether an MLflow server is at this address."
            )
        if response.length:
            # A read of a limited number of bytes does not tell that the connection was lost.
            raise http.client.IncompleteRead(body, response.length)
        answer = HttpResponse(response.status, body, response.getheader("Location") or "")
        self._used = self._clock()
        if response.will_close:
            self.close()
        return answer


class _DeadlineResponse(http.client.HTTPResponse):
    """A response with a deadline for the whole body, not only for each read."""

    def __init__(self, sock: socket.socket, *options: Any, timeouts: Timeouts, **named: Any) -> None:
        super().__init__(sock, *options, **named)
        self.fp: Any = io.BufferedReader(_DeadlineReader(sock, self.fp.detach(), timeouts))


class _DeadlineReader(io.RawIOBase):
    """Read a socket until a deadline; each read waits no longer than until then."""

    def __init__(self, sock: socket.socket, raw: Any, timeouts: Timeouts) -> None:
        self._socket = sock
        self._raw = raw
        self._timeouts = timeouts
        self._deadline = time.monotonic() + timeouts.answer

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has arrived into a buffer; return the number of bytes."""
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self._socket.settimeout(min(remaining, self._timeouts.read))
        return int(self._raw.readinto(buffer))

    def close(self) -> None:
        """Close the socket's reader."""
        self._raw.close()
        super().close()


def _new_connection(server: TrackingServer, timeout: float) -> http.client.HTTPConnection:
    parts = urlsplit(server.uri)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise LineageError(
            f"Lineage needs an MLflow server, and {server.uri!r} is not the address of one. Run `mlflow server "
            f"--backend-store-uri {server.backend}` and use its http:// address as the tracking URI."
        )
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=_tls_context(server))


def _tls_context(server: TrackingServer) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=server.ca_bundle or None)
        if not server.verify_tls:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if server.client_certificate:
            context.load_cert_chain(server.client_certificate)
    except OSError as error:
        raise LineageError(
            f"The TLS files for {server.uri!r} cannot be used (CA bundle {server.ca_bundle!r}, client certificate "
            f"{server.client_certificate!r}): {error}."
        ) from error
    return context


def _unreachable_message(uri: str, timeouts: Timeouts, error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"The certificate of MLflow at {uri!r} is not trusted: {error.verify_message}. Set "
            "MLFLOW_TRACKING_SERVER_CERT_PATH to the CA that signed it."
        )
    if isinstance(error, socket.gaierror):
        return f"The host of MLflow's address {uri!r} is unknown. Correct the tracking URI."
    if isinstance(error, TimeoutError):
        return (
            f"MLflow at {uri!r} did not answer in time ({timeouts.connect:g} s to connect, {timeouts.read:g} s "
            f"for the next bytes, {timeouts.answer:g} s for a whole answer). Check whether the server is overloaded."
        )
    return f"MLflow at {uri!r} cannot be reached: {error}. Start the server, or correct the tracking URI."
