"""Steps of DAG files in pods: the cluster, its images, workers and triggerers."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from airflow_zen.lineage.mlflow.offline import write_package
from airflow_zen.runtimes import Kubernetes
from tests.runtimes.triggers import resumption, run_trigger
from tests.servers.kubernetes import Image, kubernetes_cluster

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


@pytest.fixture
def cluster(tmp_path, small_python):
    """A cluster whose node has the images of these tests, and a GPU."""
    with kubernetes_cluster(
        tmp_path / "node", *images(tmp_path, small_python), capacity={"amd.com/gpu": "1"}
    ) as running:
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


@pytest.fixture
def start_task(start_file, connections, root):
    """Run the DAG of a file in a task of the worker, with its steps in pods; return the task."""
    return lambda text, runtime=None, **options: start_file(
        HEADER + text, runtime or Kubernetes(IMAGE), connections=connections, **options
    )


@pytest.fixture
def trigger(connections):
    """Run the trigger of a deferred task as a triggerer does; return what the task is resumed with."""

    def run(task, **options):
        event = run_trigger(*deferral_of(task), connections, **options)
        return resumption(task.deferral.next_method, event)

    return run


def deferral_of(task):
    """Return the path of the trigger of a deferred task, and its options."""
    assert task.deferral is not None, task.error
    return task.deferral.classpath, task.deferral.trigger_kwargs
