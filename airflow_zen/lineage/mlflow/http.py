"""HTTP connections to the MLflow server that are kept open and bound how long a request waits."""

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
from airflow_zen.transports.base import Timeouts

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.server import TrackingServer

# The operating system sends a lost first packet again after 1 s.
MLFLOW_TIMEOUTS = Timeouts(connect=1.2, read=5.0)

# MLflow's web server closes a connection that was idle for 5 s.
_IDLE_SECONDS = 3.0

_DROPPED_ERRORS = (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected, http.client.CannotSendRequest)

# Method, path, content and headers.
_Request = tuple[str, str, bytes | None, Mapping[str, str]]


class HttpResponse(msgspec.Struct, frozen=True):
    """A response: HTTP status, body, and the address of a redirect."""

    status: int
    body: bytes
    location: str = ""


class KeepAliveConnection:
    """Send requests over one connection, one at a time; replace a connection that the server has dropped."""

    def __init__(self, server: TrackingServer, timeouts: Timeouts, clock: Callable[[], float]) -> None:
        self._server = server
        self._timeouts = timeouts
        self._clock = clock
        self._open: http.client.HTTPConnection | None = None
        self._used = 0.0

    def send(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str], at_most_once: bool = False
    ) -> HttpResponse:
        """Send one request and return the response.

        A request on a dropped connection is sent again on a new one, unless it must arrive at most once: the server may
        have processed it although the response is lost. Raises `MlflowUnavailable` when the server does not accept the
        connection or does not respond in time.
        """
        request = (method, path, content, headers)
        try:
            connection = self._reusable_connection()
            if connection:
                with suppress(*(() if at_most_once else _DROPPED_ERRORS)):
                    return self._exchange(connection, request)
                self.close()
            return self._exchange(self._connect(), request)
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

    def _connect(self) -> http.client.HTTPConnection:
        self._open = connection = _new_connection(self._server, self._timeouts.connect)
        connection.connect()
        connection.sock.settimeout(self._timeouts.read)
        return connection

    def _exchange(self, connection: http.client.HTTPConnection, request: _Request) -> HttpResponse:
        connection.request(*request)
        response = connection.getresponse()
        answer = HttpResponse(response.status, response.read(), response.getheader("Location") or "")
        self._used = self._clock()
        if response.will_close:
            self.close()
        return answer


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
            f"MLflow at {uri!r} did not answer in time ({timeouts.connect:g} s to connect, {timeouts.read:g} s to "
            "read). Check whether the server is overloaded."
        )
    return f"MLflow at {uri!r} cannot be reached: {error}. Start the server, or correct the tracking URI."
