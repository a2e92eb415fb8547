"""One kept HTTP connection to the MLflow server, with bounded waiting."""

from __future__ import annotations

import http.client
import select
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from airflow_zen.errors import LineageError
from airflow_zen.lineage.mlflow.errors import MlflowUnavailable

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.server import TrackingServer

# MLflow's web server drops a connection that was idle for 5 s.
_IDLE_SECONDS = 3.0

_DROPPED_ERRORS = (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected, http.client.CannotSendRequest)


class HttpResponse(msgspec.Struct, frozen=True):
    """What came back: HTTP status, body, and the address of a redirect."""

    status: int
    body: bytes
    location: str = ""


class HttpTimeouts(msgspec.Struct, frozen=True):
    """How long to wait, in seconds: for a connection, and for an answer."""

    # A lost first packet is sent again after 1 s.
    connect: float = 1.2
    read: float = 5.0


DEFAULT_HTTP_TIMEOUTS = HttpTimeouts()


class KeepAliveConnection:
    """Send requests over one connection, one at a time; connect anew when the old one has gone stale."""

    def __init__(self, server: TrackingServer, timeouts: HttpTimeouts, clock: Callable[[], float]) -> None:
        self._server = server
        self._timeouts = timeouts
        self._clock = clock
        self._open: http.client.HTTPConnection | None = None
        self._used = 0.0

    def send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], at_most_once: bool = False
    ) -> HttpResponse:
        """Send one request and read the answer whole.

        A kept connection that turns out to be dropped is replaced once, unless the request must not be
        sent twice: the server may have done what it asks, and only the answer is lost. Raises `MlflowUnavailable`
        when the server does not take the connection or does not answer in time.
        """
        try:
            connection = self._reusable_connection()
            if connection:
                with suppress(*(() if at_most_once else _DROPPED_ERRORS)):
                    return self._exchange(connection, method, path, body, headers)
                self.close()
            return self._exchange(self._connect(), method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if isinstance(error, LineageError):
                raise
            raise MlflowUnavailable(_unreachable_message(self._server.uri, self._timeouts, error)) from error

    def close(self) -> None:
        """Let the connection go."""
        if self._open:
            self._open.close()
        self._open = None

    def _reusable_connection(self) -> http.client.HTTPConnection | None:
        """Give the open connection unless it has been idle too long to be trusted, or has been closed over there."""
        if self._open and (self._clock() - self._used >= _IDLE_SECONDS or _closed_by_server(self._open)):
            self.close()
        return self._open

    def _connect(self) -> http.client.HTTPConnection:
        connection = _new_connection(self._server, self._timeouts.connect)
        self._open = connection
        connection.connect()
        connection.sock.settimeout(self._timeouts.read)
        return connection

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> HttpResponse:
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        answer = HttpResponse(response.status, response.read(), response.getheader("Location") or "")
        self._used = self._clock()
        if response.will_close:
            self.close()
        return answer


def _closed_by_server(connection: http.client.HTTPConnection) -> bool:
    """Tell whether the server has closed an idle connection: there is something to read, and nothing was asked."""
    return bool(connection.sock is None or select.select([connection.sock], [], [], 0)[0])


def _new_connection(server: TrackingServer, timeout: float) -> http.client.HTTPConnection:
    parts = urlsplit(server.uri)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise LineageError(
            f"Lineage needs an MLflow server, and {server.uri!r} is not the address of one. Run `mlflow server "
            f"--backend-store-uri {server.uri or '<database>'}` and use its http:// address as the tracking URI."
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


def _unreachable_message(uri: str, timeouts: HttpTimeouts, error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"The certificate of MLflow at {uri!r} is not trusted: {error.verify_message}. Name the CA that signed it "
            "in MLFLOW_TRACKING_SERVER_CERT_PATH."
        )
    if isinstance(error, socket.gaierror):
        return f"The host of MLflow's address {uri!r} is unknown. Correct the tracking URI."
    if isinstance(error, TimeoutError):
        return (
            f"MLflow at {uri!r} did not answer in time ({timeouts.connect:g} s to connect, {timeouts.read:g} s to "
            "read). See whether the server is overloaded."
        )
    return f"MLflow at {uri!r} cannot be reached: {error}. Start the server, or correct the tracking URI."
