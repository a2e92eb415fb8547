"""The Docker engine that tests run."""

import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.servers import docker_engine as engines
from tests.servers.docker_engine import BUSYBOX

pytestmark = pytest.mark.server


def start(engine, *command, network="none", **limits):
    """Start a container of busybox; return its id."""
    host = engine.client.create_host_config(network_mode=network, **limits)
    container = engine.client.create_container(BUSYBOX, list(command), host_config=host)["Id"]
    engine.client.start(container)
    return container


def test_a_container_runs(docker_engine):
    """A command in a container has its output and exit code, and the engine's events name its image."""
    begun = time.time()
    container = start(docker_engine, "sh", "-c", "echo hello; exit 3")
    assert docker_engine.client.wait(container)["StatusCode"] == 3
    assert docker_engine.client.logs(container) == b"hello\n"
    assert docker_engine.started(begun) == [BUSYBOX]


def test_a_memory_limit_is_enforced(docker_engine):
    """A process that uses more memory than its container may is killed, and the engine says so."""
    grow = "a=xxxxxxxxxxxxxxxx; while true; do a=$a$a; done"
    container = start(docker_engine, "sh", "-c", grow, mem_limit="16m", memswap_limit="16m")
    assert docker_engine.client.wait(container)["StatusCode"] == 137
    assert docker_engine.client.inspect_container(container)["State"]["OOMKilled"] is True


def test_an_engine_leaves_nothing(docker_engine):
    """When an engine ends, its processes, those of its containers, its mounts and its files are gone."""
    with engines.docker_engine() as engine:
        running = start(engine, "sleep", "600", network="host")
        process = psutil.Process(engine.client.inspect_container(running)["State"]["Pid"])
    assert not process.is_running()
    assert not engine.directory.exists()
    assert str(engine.directory) not in Path("/proc/mounts").read_text()
    assert str(engine.directory) not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
