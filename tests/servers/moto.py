"""An S3 server in Python with strict conditional writes, also for multipart uploads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.process import accepts, free_port, running
from tests.servers.s3 import S3Server


@contextmanager
def moto(directory: Path) -> Iterator[S3Server]:
    """Run moto's server; it accepts any credentials and keeps everything in memory."""
    port = free_port()
    command = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, log=directory / "moto.out", answers=lambda: accepts(port)):
        yield S3Server(
            f"http://127.0.0.1:{port}", access_key="zen-access", secret_key="zen-secret", bucket="zen"
        ).create_bucket()
