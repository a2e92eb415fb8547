"""A Docker engine of its own, with images made here: it pulls nothing, and its containers share this machine's network."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import docker
from docker.errors import DockerException

from tests.servers.process import memory_directory, running

PROGRAMS = ("dockerd", "containerd", "runc", "busybox")
BUSYBOX = "zen/busybox:1"


def missing() -> str:
    """Name what this machine lacks to run an engine; empty if it lacks nothing."""
    if os.geteuid() != 0:
        return "root"
    return ", ".join(name for name in PROGRAMS if shutil.which(name) is None)


@dataclass(frozen=True)
class DockerEngine:
    """A running engine with one image, `BUSYBOX`: a shell and the usual commands, and no Python.

    url: for DOCKER_HOST.
    """

    url: str
    directory: Path = field(repr=False)

    @cached_property
    def client(self) -> docker.APIClient:
        """The engine's API."""
        return docker.APIClient(base_url=self.url)

    def import_image(self, name: str, archive: bytes, changes: Sequence[str] = ()) -> str:
        """Make an image of a tar archive, with instructions of a Dockerfile such as `ENV A=b`; return its digest."""
        repository, tag = name.split(":")
        self.client.import_image_from_data(archive, repository=repository, tag=tag, changes=list(changes))
        return str(self.client.inspect_image(name)["Id"])

    def containers(self) -> list[str]:
        """Return the ids of all containers, of those that have ended too."""
        return [str(one["Id"]) for one in self.client.containers(all=True)]

    def started(self, since: float) -> list[str]:
        """Return the images of the containers started since a time, in seconds since 1970, from the engine's events."""
        # Without an end the stream of events has none either.
        events = self.client.events(since=since, until=time.time(), filters={"event": "start"}, decode=True)
        return [str(event["from"]) for event in events]


@contextmanager
def docker_engine() -> Iterator[DockerEngine]:
    """Run an engine with sockets, images and containers in a directory of its own, in memory where possible.

    The directory is deleted with all of them. Raises `ServerFailed` where this machine does not let an engine run.
    """
    # Not in pytest's directory: the path of a socket has at most 107 characters.
    directory = memory_directory("zen-docker-")
    engine = DockerEngine(f"unix://{directory}/docker.sock", directory)
    try:
        with running(_command(directory), log=directory / "log", answers=lambda: _answers(engine.url), timeout=60):
            try:
                engine.import_image(BUSYBOX, busybox_archive())
                yield engine
            finally:
                _remove_containers(engine)
    finally:
        _unmount(directory)
        shutil.rmtree(directory, ignore_errors=True)


def busybox_archive() -> bytes:
    """Return a file system that consists of busybox, its commands, and a directory for temporary files."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(str(shutil.which("busybox")), "bin/busybox")
        for name in ("sh", "cat", "echo", "env", "id", "kill", "ls", "sleep"):
            tar.addfile(_entry(f"bin/{name}", tarfile.SYMTYPE, linkname="busybox"))
        tar.addfile(_entry("tmp", tarfile.DIRTYPE, mode=0o1777))
    return archive.getvalue()


def _entry(name: str, kind: bytes, mode: int = 0o755, linkname: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname = kind, mode, linkname
    return entry


def _command(directory: Path) -> list[str]:
    (directory / "daemon.json").write_text("{}")
    folders = [f"--data-root={directory}/data", f"--exec-root={directory}/exec", f"--pidfile={directory}/pid"]
    # Bridges and packet filters are the machine's, and not ours to change.
    network = ["--bridge=none", "--iptables=false", "--ip6tables=false"]
    return [
        "dockerd", f"--config-file={directory}/daemon.json", f"--host=unix://{directory}/docker.sock", *folders, *network
    ]  # fmt: skip


def _answers(url: str) -> bool:
    with suppress(DockerException, OSError), closing(docker.APIClient(base_url=url, timeout=10)) as client:
        return bool(client.ping())
    return False


def _remove_containers(engine: DockerEngine) -> None:
    """Remove all containers: the engine would wait ten seconds for each, and its end would leave their processes."""
    for container in engine.containers():
        with suppress(DockerException):
            engine.client.remove_container(container, force=True, v=True)
    engine.client.close()


def _unmount(directory: Path) -> None:
    """Unmount what the engine left: the network namespace that its containers had in common with this machine."""
    for line in Path("/proc/mounts").read_text().splitlines():
        if (target := line.split()[1]).startswith(f"{directory}/"):
            subprocess.run(["umount", target], check=False)
