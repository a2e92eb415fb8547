"""Containers of a Docker engine: isolated, and killed by the kernel at their memory limit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from docker.errors import APIError

from tests.servers.kubernetes.containers import Ended, Launch


class DockerContainers:
    """Run containers with a client of an engine, whose images have the names of the cluster's.

    They share this machine's network. A container is removed when it has ended.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def start(self, launch: Launch) -> DockerContainer:
        """Start a container; raise `OSError` for one that the engine cannot start."""
        mounts = [f"{mount.source}:{mount.target}:{'ro' if mount.read_only else 'rw'}" for mount in launch.mounts]
        limits = {"mem_limit": launch.memory, "memswap_limit": launch.memory}
        host = self._client.create_host_config(network_mode="host", binds=mounts, **limits)
        container = self._client.create_container(
            launch.image.name,
            entrypoint=launch.command[:1],
            command=launch.command[1:],
            environment=dict(launch.environment),
            working_dir=launch.directory or None,
            host_config=host,
        )["Id"]
        output = self._client.attach(container, stream=True, logs=True)
        try:
            self._client.start(container)
        except APIError as error:
            self._client.remove_container(container, force=True)
            raise OSError(error.explanation) from error
        return DockerContainer(self._client, container, output)


class DockerContainer:
    """One container of the engine."""

    def __init__(self, client: Any, container: str, output: Iterator[bytes]) -> None:
        self._client = client
        self._container = container
        self._output = output
        self._ended: Ended | None = None
        threading.Thread(target=self._wait, daemon=True).start()

    def ended(self) -> Ended | None:
        """Return how it ended; None while it runs."""
        return self._ended

    def lines(self) -> Iterator[bytes]:
        """Yield its output line by line until it ends."""
        rest = b""
        for data in self._output:
            *lines, rest = (rest + data).split(b"\n")
            yield from (line + b"\n" for line in lines)
        if rest:
            yield rest

    def terminate(self) -> None:
        """Send SIGTERM to its first process."""
        self._signal("SIGTERM")

    def kill(self) -> None:
        """Send SIGKILL to all of its processes."""
        self._signal("SIGKILL")

    def _signal(self, name: str) -> None:
        # It may end meanwhile.
        with suppress(APIError):
            self._client.kill(self._container, name)

    def _wait(self) -> None:
        code = int(self._client.wait(self._container, timeout=None)["StatusCode"])
        is_out_of_memory = bool(self._client.inspect_container(self._container)["State"]["OOMKilled"])
        self._client.remove_container(self._container, force=True)
        self._ended = Ended(code, is_out_of_memory)
