"""An S3 server in Python with strict conditional writes, also for multipart uploads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.certificate import signed_by_itself
from tests.servers.process import accepts, free_port, running
from tests.servers.s3 import S3Server

# It looks whether a key is there and then writes it, and would let two requests at once do so.
_MAIN = """
from threading import Lock
from moto import server

class OneAtATime(server.DomainDispatcherApplication):
    turn = Lock()

    def __call__(self, environ, start_response):
        with self.turn:
            return super().__call__(environ, start_response)

server.DomainDispatcherApplication = OneAtATime
server.main()
"""


@contextmanager
def moto(directory: Path, *, tls: bool = False) -> Iterator[S3Server]:
    """Run moto's server; it accepts any credentials and keeps everything in memory. Its STS lets anyone assume a role.

    tls: behind a certificate that it signed itself.
    """
    port = free_port()
    command = [sys.executable, "-c", _MAIN, "-H", "127.0.0.1", "-p", str(port)]
    certificate, key = signed_by_itself(directory) if tls else ("", "")
    if tls:
        command += ["--ssl", "--ssl-cert", certificate, "--ssl-key", key]
    with running(command, log=directory / "moto.out", answers=lambda: accepts(port)):
        yield S3Server(
            f"{'https' if tls else 'http'}://127.0.0.1:{port}",
            access_key="zen-access",
            secret_key="zen-secret",
            bucket="zen",
            certificate=certificate,
        ).create_bucket()
