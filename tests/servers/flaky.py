"""A proxy before a real server that fails at a chosen request, as a server that is killed then does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Self

# What the proxy says of each answer itself.
_OWN_HEADERS = frozenset({"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"})


class Failure(Enum):
    """What the chosen request meets: the server dies before it or after it, or only the answer is lost, or half of it."""

    BEFORE = "before"
    AFTER = "after"
    ANSWER_LOST = "answer lost"
    HALF_LOST = "half lost"


class FlakyProxy:
    """Forward requests to `port`; request number `fail_at` (from 0) meets `failure`."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.fail_at = -1
        self.failure = Failure.BEFORE
        self.requests = 0
        self.answered = 0  # bytes
        self.down = False
        self._lock = Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_port}"

    def arm(self, fail_at: int, failure: Failure) -> None:
        """Be up, count from 0, and fail at that request."""
        self.requests, self.down, self.fail_at, self.failure = 0, False, fail_at, failure

    def heal(self) -> None:
        """Be up, and fail no more."""
        self.down, self.fail_at = False, -1

    def fate(self, request: str) -> Failure | None:
        """Count a request, which is its method and path, and give its fate."""
        with self._lock:
            number, self.requests = self.requests, self.requests + 1
            if self.down:
                return Failure.BEFORE
            if number != self.fail_at:
                return None
            self.down = self.failure in (Failure.BEFORE, Failure.AFTER)
            return self.failure

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Otherwise a short answer after its headers waits for an acknowledgement, 40 ms.
            disable_nagle_algorithm = True

            def _forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fate = proxy.fate(f"{self.command} {self.path}")
                if fate is Failure.BEFORE:
                    return self._drop()
                target = HTTPConnection("127.0.0.1", proxy.target, timeout=60)
                target.request(self.command, self.path, body, dict(self.headers))
                answer = target.getresponse()
                data = answer.read()
                headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in _OWN_HEADERS]
                target.close()
                if fate in (Failure.AFTER, Failure.ANSWER_LOST):
                    return self._drop()
                proxy.answered += len(data)
                self.send_response(answer.status)
                for name, value in headers:
                    self.send_header(name, value)
                # What is missing is told without a length.
                length = answer.headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(data))
                self.send_header("Content-Length", length)
                self.end_headers()
                if fate is Failure.HALF_LOST:
                    self.wfile.write(data[: len(data) // 2])
                    return self._drop()
                self.wfile.write(data)
                return None

            def _drop(self) -> None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _forward  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def flaky(port: int) -> Iterator[FlakyProxy]:
    """Run the proxy."""
    with FlakyProxy(port) as proxy:
        yield proxy
