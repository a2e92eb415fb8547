"""Azure Blob Storage as Microsoft emulates it: Azurite, a program of Node."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.process import accepts, free_port, running

# scripts/test-parts.sh installs it there.
PROGRAM = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "airflow-zen" / "azurite" / "node_modules"
ACCOUNT = "zen"
KEY = base64.b64encode(b"a key of one test session").decode()


@dataclass(frozen=True)
class AzureServer:
    """A running Azurite, and one empty container on it."""

    endpoint: str
    container: str = "zen"
    account: str = ACCOUNT
    key: str = KEY

    @property
    def root(self) -> str:
        """The container as a URL."""
        return f"az://{self.container}"

    @property
    def connection_string(self) -> str:
        """What Azure's own clients are given."""
        return f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey={self.key};BlobEndpoint={self.endpoint};"

    def storage_options(self) -> dict[str, Any]:
        """Options of `fsspec.filesystem("az", …)`."""
        return {"connection_string": self.connection_string}

    def client(self) -> Any:
        """Open the container by Azure's own client."""
        from azure.storage.blob import ContainerClient

        return ContainerClient.from_connection_string(self.connection_string, self.container)


def runs_here() -> bool:
    """Whether this machine has Node.js, which installs and runs Azurite."""
    return shutil.which("node") is not None and shutil.which("npm") is not None


def is_installed() -> bool:
    """Whether scripts/test-parts.sh has installed Azurite."""
    return (PROGRAM / "azurite").is_dir()


@contextmanager
def azurite(directory: Path) -> Iterator[AzureServer]:
    """Run Azurite, everything in memory."""
    port = free_port()
    command: list[str | Path] = [
        "node",
        PROGRAM / "azurite" / "dist" / "src" / "blob" / "main.js",
        *("--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"),
        *("--silent", "--skipApiVersionCheck", "--disableTelemetry"),
    ]
    accounts = {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
    with running(command, log=directory / "azurite.out", answers=lambda: accepts(port), environment=accounts):
        server = AzureServer(f"http://127.0.0.1:{port}/{ACCOUNT}")
        server.client().create_container()
        yield server
