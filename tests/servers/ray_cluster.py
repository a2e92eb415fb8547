"""A Ray cluster of two nodes on this machine, with a dashboard."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.servers.process import free_port, running

# A cluster ends with the program that has started it.
_PROGRAM = """
import json, signal, sys, threading, time
from pathlib import Path
from ray import NodeID
from ray._raylet import DASHBOARD_AGENT_LISTEN_PORT_NAME, persist_port
from ray.cluster_utils import Cluster

folder, ready, port, *ports = sys.argv[1:]
names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
ids = [NodeID.from_random().hex() for _ in range(2)]

def node(number):
    given = dict(zip(names, map(int, ports[4 * number:])))
    variables = {"RAY_OVERRIDE_NODE_ID_FOR_TESTING": ids[number]}
    # Ray replaces 127.0.0.1 by the address of the machine, on which nothing of the cluster listens.
    common = {"node_ip_address": f"127.0.0.{number + 2}", "num_cpus": 2, "object_store_memory": 100_000_000}
    return {**common, **given, "env_vars": variables}

def say_ports():
    # A node ends itself whose agents have not said their ports after 15 seconds; on a busy machine they start later.
    session = Path(folder, "session_latest")
    while not session.exists():
        time.sleep(0.01)
    for number, each in enumerate(ids):
        persist_port(str(session.resolve()), each, DASHBOARD_AGENT_LISTEN_PORT_NAME, int(ports[4 * number + 2]))

threading.Thread(target=say_ports, daemon=True).start()
head = {"temp_dir": folder, "include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": int(port)}
cluster = Cluster(initialize_head=True, head_node_args={**node(0), **head})
cluster.add_node(**node(1))
# Ray's own waits until the nodes have nothing to do.
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
Path(ready).write_text(json.dumps(cluster.address))
try:
    signal.pause()
finally:
    cluster.shutdown()
"""
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Waits that are too short for a busy machine.
    "RAY_raylet_start_wait_time_s": "600",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_worker_register_timeout_seconds": "600",
    # By default Ray leaves the processors to others.
    "RAY_worker_niceness": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
}


@dataclass(frozen=True)
class RayCluster:
    """A running cluster: the URL of its dashboard, and the address for `ray.init`."""

    dashboard: str
    address: str


@contextmanager
def ray_cluster(directory: Path) -> Iterator[RayCluster]:
    """Run a cluster of two nodes with two CPUs each until the block ends."""
    # The paths of sockets are limited to 107 characters.
    folder, ready = Path(tempfile.mkdtemp(prefix="r", dir="/tmp")), directory / "ready"
    port, *ports = (str(free_port()) for _ in range(9))
    (folder / "ray").mkdir()
    command: list[str | Path] = [sys.executable, "-c", _PROGRAM, folder / "ray", ready, port, *ports]
    # The nodes have what this interpreter has, and not this checkout: the package is sent to them.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**_ENVIRONMENT, "RAY_TMPDIR": str(folder), "PATH": path, "PYTHONPATH": ""}
    try:
        log = directory / "ray.log"
        with running(command, log=log, answers=ready.exists, timeout=900, environment=environment):
            yield RayCluster(f"http://127.0.0.1:{port}", json.loads(ready.read_text()))
    finally:
        _end_rest(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _end_rest(folder: Path) -> None:
    """Kill the processes of a cluster that its program has left, because it was killed itself."""
    for process in psutil.process_iter(["cmdline"]):
        if f"{folder}/" in " ".join(process.info["cmdline"] or ()) and process.pid != os.getpid():
            with suppress(psutil.NoSuchProcess):
                process.kill()
