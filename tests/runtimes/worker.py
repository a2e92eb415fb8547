"""A worker and a triggerer whose processes can be killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

# A worker: for each line of its input it forks a task that runs a DAG file, or the trigger of a deferred one, and says
# its process id.
WORKER = """
import importlib.util, json, os, signal, sys, tempfile
from pathlib import Path
import airflow_zen.runtimes.pod_run
from tests.harness import run_dag
from tests.runtimes.triggers import run_trigger
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    asked = json.loads(line)
    if pid := os.fork():
        print(pid, flush=True)
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.environ.update(asked["environment"])
    tempfile.tempdir = None
    if "trigger" in asked:
        event = run_trigger(*asked["trigger"], asked["connections"])
        Path(asked["path"] + ".new").write_text(json.dumps(event, default=str))
        Path(asked["path"] + ".new").rename(asked["path"])
        os._exit(0)
    spec = importlib.util.spec_from_file_location(asked["module"], asked["path"])
    sys.modules[asked["module"]] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run_dag(module.pipeline(), conf={"zen": {"runtime": asked["runtime"]}}, connections=asked["connections"], **asked["options"])
    os._exit(0)
"""


def until(wanted, timeout=60):
    deadline = time.monotonic() + timeout
    while not (found := wanted()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


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
def start_process(worker):
    """Fork a process of the worker for a request; return it."""
    started = []

    def start(**asked):
        own = {name: value for name, value in os.environ.items() if name.startswith(("AIRFLOW__ZEN__", "TMPDIR"))}
        worker.stdin.write(f"{json.dumps({**asked, 'environment': own}, default=str)}\n")
        worker.stdin.flush()
        line = next(line for line in worker.stdout if line.strip().isdigit())
        started.append(Task(int(line)))
        return started[-1]

    yield start
    for task in started:
        task.kill()


@pytest.fixture
def start_file(start_process, tmp_path):
    """Run the DAG of a file in a task of the worker, with its steps in a runtime; return the task."""

    def start(text, runtime, connections=None, **options):
        path = tmp_path / "pipeline.py"
        path.write_text(text)
        module = f"unusual_prefix_{hashlib.sha1(str(path).encode()).hexdigest()}_pipeline"
        return start_process(
            module=module, path=str(path), runtime=runtime and repr(runtime), connections=connections, options=options
        )

    return start
