"""Servers on loopback in place of a store that is full, stuck, or very slow."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

_PIECE = 64 * 1024


@contextmanager
def silent() -> Iterator[str]:
    """Take connections, read nothing and never answer; give the address."""
    taken = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    for each in taken:
        each.close()


@contextmanager
def resetting() -> Iterator[str]:
    """Reset every connection once it has sent something; give the address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            while True:
                try:
                    connection = server.accept()[0]
                except OSError:
                    return
                with connection, suppress(OSError):
                    connection.recv(10)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@contextmanager
def answering(status: HTTPStatus) -> Iterator[str]:
    """Answer every request with one error, as S3 writes it; give the address."""
    body = f"<Error><Code>{status.phrase.replace(' ', '')}</Code><Message>no</Message></Error>".encode()

    class Handler(_Handler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    yield from _served(Handler)


@contextmanager
def slow(size: int, seconds: float) -> Iterator[str]:
    """Take `seconds` for every body of `size` bytes, in or out, a little all the time; give the address."""
    pause = seconds / (size / _PIECE)

    class Handler(_Handler):
        def answer(self) -> None:
            left = int(self.headers.get("Content-Length", 0))
            while left > 0:
                left -= len(self.rfile.read(min(left, _PIECE)))
                time.sleep(pause)
            begin, end = self.asked(size) if self.command in {"GET", "HEAD"} else (0, 0)
            self.send_response(HTTPStatus.PARTIAL_CONTENT if "Range" in self.headers else HTTPStatus.OK)
            for name, value in {"ETag": '"x"', "Last-Modified": "Wed, 25 Nov 2026 00:00:00 GMT"}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(end - begin))
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
            self.end_headers()
            while begin < end and self.command == "GET":
                self.wfile.write(b"x" * min(_PIECE, end - begin))
                begin += _PIECE
                time.sleep(pause)

    yield from _served(Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        raise NotImplementedError

    def asked(self, size: int) -> tuple[int, int]:
        begin, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        return int(begin), min(size, int(last or size) + 1)

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


def _served(handler: type[_Handler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
