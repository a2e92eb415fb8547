"""Steps of DAG files in pods: the cluster, its images, workers and triggerers."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from airflow_zen.lineage.mlflow.offline import write_package
from airflow_zen.runtimes import Kubernetes
from tests.harness import InMemorySupervisor, _install_supervisor
from tests.servers.kubernetes import Image, kubernetes_cluster

try:
    from airflow.sdk.serde import deserialize

    serialize = dict
except ImportError:  # Airflow 3.1, whose tasks serialize no arguments of a trigger, and expect theirs serialized
    from airflow.serialization.serialized_objects import BaseSerialization

    deserialize, serialize = dict, BaseSerialization.serialize

DIGEST = f"sha256:{'1' * 64}"
IMAGE, FULL_IMAGE = f"registry.test/train@{DIGEST}", f"registry.test/full@{DIGEST}"
HEADER = """
from datetime import datetime
from airflow.sdk import dag
from airflow_zen import Output, log_metadata, ml_step
import logging, os, sys, time

FACTOR = 3

def scaled(value: int) -> int:
    return value * FACTOR
"""


# A worker: for each line of its input it forks a task that runs a DAG file, and says its process id.
WORKER = """
import importlib.util, json, os, signal, sys
import airflow_zen.runtimes.pods
from tests.harness import run_dag
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    asked = json.loads(line)
    if pid := os.fork():
        print(pid, flush=True)
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.environ.update(asked["environment"])
    spec = importlib.util.spec_from_file_location(asked["module"], asked["path"])
    sys.modules[asked["module"]] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run_dag(module.pipeline(), conf={"zen": {"runtime": asked["runtime"]}}, connections=asked["connections"], **asked["options"])
    os._exit(0)
"""
SUM = """
@ml_step
def total(values: list[int]) -> int:
    return sum(values)

@dag(schedule=None)
def pipeline():
    total([1, 2])
"""


def _path(interpreter):
    return os.pathsep.join([str(Path(interpreter).parent), "/usr/bin", "/bin"])


def images(folder, interpreter):
    """Return the images: with the runner, with all of this interpreter, without the package, without Python."""
    path, full = _path(interpreter), _path(sys.executable)
    return (
        Image(IMAGE, DIGEST, environment={"PATH": path, "PYTHONPATH": write_package(folder / "small" / "package")}),
        Image(FULL_IMAGE, DIGEST, environment={"PATH": full, "PYTHONPATH": write_package(folder / "full" / "package")}),
        Image("registry.test/empty:1", DIGEST, environment={"PATH": path}),
        Image("registry.test/tools:1", DIGEST, environment={"PATH": "/nowhere"}),
    )


def step(body):
    """Return a DAG of one step with this body."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return f"""
@ml_step
def work(value: int) -> int:
{lines}

@dag(schedule=None)
def pipeline():
    work(2)
"""


def until(wanted, timeout=60):
    deadline = time.monotonic() + timeout
    while not (found := wanted()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


@pytest.fixture
def cluster(tmp_path, small_python):
    """A cluster whose node has the images of these tests."""
    with kubernetes_cluster(tmp_path / "node", *images(tmp_path, small_python)) as running:
        yield running


@pytest.fixture
def api(cluster):
    from kubernetes.client import CoreV1Api

    with cluster.client() as connection:
        yield CoreV1Api(connection)


@pytest.fixture
def connections(cluster):
    """The connection of the cluster, as Airflow has it."""
    config = json.dumps({"kube_config": json.dumps(cluster.kubeconfig())})
    empty = dict.fromkeys(("host", "schema", "login", "password", "port"))
    return {"kubernetes_default": {"conn_type": "kubernetes", "extra": config, **empty}}


@pytest.fixture
def run_pod(run_file, connections):
    """Run the DAG of a file with its steps in pods; return the run."""

    def run(text, runtime=None, **options):
        return run_file(HEADER + text, runtime or Kubernetes(IMAGE), connections=connections, **options)

    return run


def in_pods(request, interpreter):
    """Return the runtime, in a cluster whose image has an interpreter."""
    cluster, folder = request.getfixturevalue("cluster"), request.getfixturevalue("tmp_path") / "interpreter"
    name = f"registry.test/interpreter@{DIGEST}"
    environment = {"PATH": _path(interpreter), "PYTHONPATH": write_package(folder / "package")}
    cluster.node.images[name] = Image(name, DIGEST, environment=environment)
    request.getfixturevalue("monkeypatch").setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", connection_text(cluster))
    return Kubernetes(name)


def connection_text(cluster):
    """Return the connection of a cluster as a variable holds it."""
    return json.dumps({"conn_type": "kubernetes", "extra": {"kube_config": json.dumps(cluster.kubeconfig())}})


class Task:
    """A task process of the worker."""

    def __init__(self, pid):
        self.pid = pid

    def kill(self, number=signal.SIGKILL):
        """Send a signal, by default that of kill -9, and wait for the end."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
        until(lambda: not psutil.pid_exists(self.pid))


@pytest.fixture(scope="session")
def worker():
    """A process that forks tasks, as a worker of Airflow does."""
    command = [sys.executable, "-c", WORKER]
    process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def start_task(worker, tmp_path, connections, root):
    """Run the DAG of a file in a task of the worker; return the task."""
    started = []

    def start(text, **options):
        path = tmp_path / "pipeline.py"
        path.write_text(HEADER + text)
        asked = {
            "module": f"unusual_prefix_{hashlib.sha1(str(path).encode()).hexdigest()}_pipeline",
            "path": str(path),
            "runtime": repr(Kubernetes(IMAGE)),
            "connections": connections,
            "environment": {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW__ZEN__")},
            "options": options,
        }
        worker.stdin.write(f"{json.dumps(asked)}\n")
        worker.stdin.flush()
        line = next(line for line in worker.stdout if line.strip().isdigit())
        started.append(Task(int(line)))
        return started[-1]

    yield start
    for task in started:
        task.kill()


@pytest.fixture
def trigger(connections):
    """Run the trigger of a deferred task as a triggerer does; return what the task is resumed with."""

    def run(task, seconds=60):
        deferral = task.deferral
        assert deferral is not None, task.error
        module, _, name = deferral.classpath.rpartition(".")
        waiting = getattr(importlib.import_module(module), name)(
            **{**deserialize(deferral.trigger_kwargs), "poll_interval": 0.1}
        )

        async def fire():
            return (await asyncio.wait_for(anext(waiting.run()), seconds)).payload

        with _install_supervisor(InMemorySupervisor(connections=connections)):
            event = asyncio.run(fire())
        return {"next_method": deferral.next_method, "next_kwargs": serialize({**deferral.next_kwargs, "event": event})}

    return run
