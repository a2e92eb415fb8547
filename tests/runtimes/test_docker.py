"""Promises of the runtime `Docker`: a step in a container, on an engine that the tests start."""

import logging
import os
import signal
import socket
import time
from contextlib import contextmanager, suppress
from functools import partial
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread, Timer

import pytest
from docker.errors import APIError
from msgspec.structs import replace

from airflow_zen import load
from airflow_zen.errors import RuntimeUnavailable, StepDefinitionError
from airflow_zen.runtimes import Docker, parse_runtime
from tests.runtimes import containers
from tests.runtimes.conftest import other_releases
from tests.runtimes.containers import IMAGE, python_mounts
from tests.runtimes.moments import moments
from tests.servers.docker_engine import BUSYBOX, busybox_archive

pytestmark = pytest.mark.server
OLD = ("3.7", "3.8", "3.9", "3.10")
HEADER = """
import logging, os, sys, time
from airflow.sdk import dag
from airflow_zen import Output, ml_step

FACTOR = 3

def scaled(value: int) -> int:
    return value * FACTOR

def wait():
    logging.warning("waiting")
    for _ in range(600):
        time.sleep(0.1)
"""


@pytest.fixture
def in_docker(python_engine, small_python):
    """Make a runtime without Airflow: `in_docker(memory="1Gi")`; after the test no container may be left."""
    yield partial(containers.in_docker, python_engine, small_python)
    # A task that is killed before it has started its container leaves that: a later one removes it.
    assert started_containers(python_engine) == []


@pytest.fixture
def on_waiting():
    """Call a function when the step logs that it waits: `on_waiting(function)`."""
    root, handlers = logging.getLogger(), []

    class Watcher(logging.Handler):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def emit(self, record):
            if record.getMessage() == "waiting":
                self.function()

    def add(function):
        handlers.append(Watcher(function))
        root.addHandler(handlers[-1])

    yield add
    for handler in handlers:
        root.removeHandler(handler)


@contextmanager
def relay(path):
    """Forward connections of a port to a socket, as the engine of another machine is reached; yield its address."""

    def copy(source, target):
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    class Connection(BaseRequestHandler):
        def handle(self):
            with socket.socket(socket.AF_UNIX) as engine:
                engine.connect(path)
                back = Thread(target=copy, args=(engine, self.request), daemon=True)
                back.start()
                copy(self.request, engine)
                back.join()

    with ThreadingTCPServer(("127.0.0.1", 0), Connection) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def dag_of(body, call="step()"):
    """The text of a DAG file with one step."""
    return f"{HEADER}\n@ml_step\n{body}\n\n@dag(schedule=None)\ndef pipeline():\n    {call}\n"


def error_of(run):
    assert [task.state for task in run.tasks] == ["failed"]
    return run.tasks[-1].error


WHERE = """
def step(value: int) -> dict:
    airflow = any(name.partition(".")[0] == "airflow" for name in sys.modules)
    return {"scaled": scaled(value), "host": os.uname().nodename, "airflow": airflow, "python": sys.executable}"""


def test_a_step_runs_in_a_container(run_file, in_docker, small_python, root):
    """The function runs with the helpers of its file, without Airflow, and its files belong to the worker's user."""
    value = load(run_file(dag_of(WHERE, "step(2)"), in_docker()).xcom("step"))
    assert value["host"] != os.uname().nodename
    assert {**value, "host": ""} == {"scaled": 6, "host": "", "airflow": False, "python": small_python}
    assert {path.stat().st_uid for path in root.rglob("*")} == {os.getuid()}


def test_output_comes_while_the_step_runs(run_file, in_docker, small_python, on_waiting, tmp_path, caplog, capfd):
    """Log records arrive with their level and logger, and prints as prints, before the function returns."""
    on_waiting((tmp_path / "go").touch)
    body = f"""
def step() -> int:
    print("über", flush=True)
    logging.getLogger("mine").warning("waiting")
    for attempt in range(600):
        if os.path.exists("{tmp_path}/go"):
            return attempt
        time.sleep(0.1)"""
    runtime = in_docker(mounts=(*python_mounts(small_python), f"{tmp_path}:{tmp_path}"))
    assert load(run_file(dag_of(body), runtime).xcom("step")) < 500
    assert ("mine", logging.WARNING, "waiting") in caplog.record_tuples
    assert "über\n" in capfd.readouterr().out


EAT = """
def step(size: int) -> int:
    return len(bytearray(size))"""


def test_out_of_memory_is_named_and_the_next_try_may_have_more(run_file, in_docker):
    """A function that uses more than the limit fails by that name; a later try with a higher limit succeeds."""
    text, runtime = dag_of(EAT, "step(400_000_000)"), in_docker(memory=("128Mi", "1Gi"))
    error = error_of(run_file(text, runtime))
    assert isinstance(error, RuntimeUnavailable)
    assert "out of memory, limit 128Mi" in str(error)
    assert load(run_file(text, runtime, try_number=2).xcom("step")) == 400_000_000


def test_a_killed_task_stops_its_container(run_file, in_docker, on_waiting, root):
    """On SIGTERM the function's `finally` runs, its last lines are logged, and the run ends as KILLED."""
    on_waiting(lambda: os.kill(os.getpid(), signal.SIGTERM))
    body = f"""
def step() -> int:
    try:
        wait()
    finally:
        with open("{root}/cleaned", "w") as file:
            file.write("up")"""
    run = run_file(dag_of(body), in_docker())
    assert "StepInterrupted" in repr(run.tasks[-1].error)
    assert (root / "cleaned").read_text() == "up"


@pytest.mark.slow
def test_a_task_killed_at_any_moment_leaves_no_container(docker_engine, run_file, in_docker):
    """Whenever the task's process is killed without a word, its container ends and is removed, and a retry succeeds."""
    text = dag_of("\ndef step(value: str) -> str:\n    time.sleep(0.2)\n    return value", "step('{{ run_id }}')")
    for number, moment in enumerate(moments(0, 1, seed=5)):
        task = os.fork()
        if not task:
            with suppress(BaseException):
                run_file(text, in_docker(), run_id=f"manual__{number}")
            os._exit(0)
        time.sleep(moment)
        os.kill(task, signal.SIGKILL)
        os.waitpid(task, 0)
        wait_until(lambda: not started_containers(docker_engine))
        retry = run_file(text, in_docker(), run_id=f"manual__{number}", try_number=2)
        assert load(retry.xcom("step")) == f"manual__{number}"
    for container in docker_engine.containers():
        docker_engine.client.remove_container(container)


def test_a_container_that_was_never_started_is_removed_later(docker_engine, run_file, in_docker, monkeypatch):
    """A later step removes the container of a task that was killed between creating and starting it, and no other."""
    labels = {"airflow_zen.step_run": "d/r/t"}
    created = docker_engine.client.create_container(BUSYBOX, "sleep", labels=labels)["Id"]
    other = docker_engine.client.create_container(BUSYBOX, "sleep")["Id"]
    assert load(run_file(dag_of(WHERE, "step(1)"), in_docker()).xcom("step"))["scaled"] == 3
    assert set(docker_engine.containers()) == {created, other}
    monkeypatch.setattr("airflow_zen.runtimes.docker._SECONDS_TO_START", -2)
    assert load(run_file(dag_of(WHERE, "step(2)"), in_docker()).xcom("step"))["scaled"] == 6
    assert docker_engine.containers() == [other]
    docker_engine.client.remove_container(other)


def test_an_image_without_python_is_named(run_file, in_docker):
    """An image that has no interpreter fails the task with what the image needs."""
    error = error_of(run_file(dag_of(WHERE, "step(2)"), in_docker(BUSYBOX, mounts=(), python="python")))
    assert "has no 'python': the image needs Python 3.11 or later with airflow-provider-zen" in str(error)
    assert "Name another interpreter with python=" in str(error)
    named = in_docker(BUSYBOX, environment={"PYTHONPATH": "/opt/zen"})
    assert load(run_file(dag_of(WHERE, "step(2)"), named, run_id="manual__2").xcom("step"))["scaled"] == 6


def test_an_engine_on_another_machine_is_told_the_root(run_file, in_docker, python_engine, small_python, root):
    """An engine behind a network address does not get the worker's artifact root; named and mounted there, the step runs."""
    with relay(python_engine.url.removeprefix("unix://")) as url:
        remote = replace(in_docker(), docker_url=url)
        error = error_of(run_file(dag_of(WHERE, "step(2)"), remote))
        assert f"does not have the artifact root {str(root)!r}. Use an object store, or say with artifact_root=" in str(
            error
        )
        mounts = (*python_mounts(small_python), f"{root}:/mnt/root")
        named = replace(remote, artifact_root="/mnt/root", mounts=mounts)
        run = run_file(dag_of(WHERE, "step(2)"), named, run_id="manual__2")
        assert load(run.xcom("step"))["scaled"] == 6


def test_an_image_without_the_runner_is_named(run_file, in_docker, small_python):
    """An image that has Python and not this package fails the task with what to install."""
    error = error_of(run_file(dag_of(WHERE, "step(2)"), in_docker(mounts=python_mounts(small_python)[:-1])))
    assert "has no airflow_zen.runner: install airflow-provider-zen" in str(error)


def test_a_python_that_is_too_old_is_named(run_file, in_docker):
    """An image whose Python is older than steps need fails the task with the release that they need."""
    old = next((path for release, path in other_releases((3, 7)) if release in OLD), None)
    if old is None:
        pytest.skip("no Python older than 3.11 is on this machine: pyenv install 3.10")
    runtime = in_docker(mounts=python_mounts(str(old)), python=str(old))
    assert "has a Python that is too old: steps need Python 3.11" in str(
        error_of(run_file(dag_of(WHERE, "step(2)"), runtime))
    )


def test_a_missing_image_is_named(run_file, in_docker):
    """An image that the engine can neither find nor pull fails the task with the reason, and is not looked up in vain."""
    error = error_of(run_file(dag_of(WHERE, "step(2)"), in_docker("127.0.0.1:9/none:1")))
    assert "the Docker engine does not have '127.0.0.1:9/none:1', and cannot pull it: " in str(error)
    assert "refused" in str(error)


def test_a_missing_engine_is_named(run_file, tmp_path):
    """Where no engine answers, the task fails with its address."""
    error = error_of(run_file(dag_of(WHERE, "step(2)"), Docker(IMAGE, docker_url=f"unix://{tmp_path}/none.sock")))
    assert f"cannot use the Docker engine at unix://{tmp_path}/none.sock" in str(error)


def test_a_hit_starts_no_container(docker_engine, run_file, in_docker, caplog):
    """An equal call is reused without a container; a new image of the same name is not, and the log says why."""
    text = dag_of("\ndef step(value: int) -> int:\n    return scaled(value)", "step(2)")
    begun = time.time()
    first = run_file(text, in_docker())
    assert load(first.xcom("step")) == 6
    assert len(docker_engine.started(begun)) == 1
    begun = time.time()
    assert load(run_file(text, in_docker(memory="1Gi"), run_id="manual__2").xcom("step")) == 6
    assert docker_engine.started(begun) == []
    before = docker_engine.client.inspect_image(IMAGE)
    docker_engine.import_image(
        IMAGE, busybox_archive(), [f"ENV {each}" for each in before["Config"]["Env"]] + ["LABEL new=1"]
    )
    try:
        assert load(run_file(text, in_docker(), run_id="manual__3").xcom("step")) == 6
        assert len(docker_engine.started(begun)) == 1
        assert "not cached yet: image changed" in caplog.text
    finally:
        docker_engine.client.tag(before["Id"], *IMAGE.split(":"))


def test_credentials_go_through_the_environment(run_file, in_docker, monkeypatch):
    """A variable without a value has the worker's value in the container, and is in no spec and no text of the runtime."""
    monkeypatch.setenv("STORE_TOKEN", "a-secret-token")
    body = """
def step() -> dict:
    with open("/airflow-zen-spec.json") as file:
        return {"token": os.environ["STORE_TOKEN"][::-1], "in_spec": os.environ["STORE_TOKEN"] in file.read()}"""
    runtime = in_docker(environment={"STORE_TOKEN": None, "OTHER": "1"})
    assert load(run_file(dag_of(body), runtime).xcom("step")) == {"token": "nekot-terces-a", "in_spec": False}
    assert "a-secret-token" not in repr(runtime)


def test_limits_are_those_of_the_container(docker_engine, run_file, in_docker, on_waiting):
    """CPUs, memory, /dev/shm, user and network are what the runtime says."""
    seen = []

    def look():
        [container] = docker_engine.containers()
        seen.append(docker_engine.client.inspect_container(container))
        docker_engine.client.kill(container)

    on_waiting(look)
    limits = {"cpus": 0.5, "memory": "512Mi", "shm_size": "1Mi", "user": "0:7", "network": "host"}
    error = error_of(run_file(dag_of("\ndef step() -> int:\n    wait()"), in_docker(**limits)))
    assert "lost the step's process to SIGKILL" in str(error)
    host = seen[0]["HostConfig"]
    found = {name: host[name] for name in ("NanoCpus", "Memory", "MemorySwap", "ShmSize", "NetworkMode")}
    assert found == {
        "NanoCpus": 500_000_000, "Memory": 2**29, "MemorySwap": 2**29, "ShmSize": 2**20, "NetworkMode": "host"
    }  # fmt: skip
    assert seen[0]["Config"]["User"] == "0:7"


def test_a_missing_gpu_is_named(run_file, in_docker):
    """Where the engine has no GPU, the task fails with the engine's reason."""
    error = error_of(run_file(dag_of(WHERE, "step(2)"), in_docker(gpus=1)))
    assert "could not select device driver" in str(error)


def kill_all(engine):
    """Kill every container that runs."""
    for container in engine.containers():
        # It is not started yet, or has just ended.
        with suppress(APIError):
            engine.client.kill(container)


@pytest.mark.slow
def test_a_container_killed_at_any_moment_leaves_nothing(docker_engine, run_file, in_docker):
    """Whenever the container is killed, the step fails or is complete, no container is left, and a retry succeeds."""
    text = dag_of("\ndef step(value: str) -> str:\n    time.sleep(0.2)\n    return value", "step('{{ run_id }}')")
    for number, moment in enumerate(moments(0, 1, seed=6)):
        kill = Timer(moment, kill_all, [docker_engine])
        kill.start()
        run = run_file(text, in_docker(), run_id=f"manual__{number}")
        kill.join()
        assert docker_engine.containers() == []
        if run.states != {"step": "success"}:
            assert isinstance(error_of(run), RuntimeUnavailable)
            run = run_file(text, in_docker(), run_id=f"manual__{number}", try_number=2)
        assert load(run.xcom("step")) == f"manual__{number}"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"image": ""}, "takes the name of an image"),
        ({"memory": "4GB"}, "An amount of memory is written as '4Gi' or '500M', got '4GB'"),
        ({"memory": 4}, "memory must be one limit, or one for each try"),
        ({"cpus": "2"}, "cpus must be a number"),
        ({"gpus": "two"}, "gpus must be a number or 'all'"),
        ({"mounts": ["/data"]}, "mounts must be 'SOURCE:TARGET'"),
    ],
)
def test_options_are_checked_where_they_are_written(options, reason):
    """A wrong option is refused when the DAG is parsed."""
    with pytest.raises(StepDefinitionError, match=reason):
        Docker(**{"image": "train:1", **options})


def test_a_runtime_has_one_text():
    """Equal options have an equal text, whatever their order and type, and it is Python code for the runtime."""
    one = Docker("train:1", mounts=["/a:/a"], memory="4Gi", environment={"B": "1", "A": None})
    other = Docker("train:1", environment={"A": None, "B": "1"}, memory=("4Gi",), mounts=("/a:/a",))
    assert repr(one) == repr(other)
    assert parse_runtime(repr(one), "runtime") == one


def started_containers(engine):
    """Return the containers that were started, and those that have ended and are not removed."""
    return engine.client.containers(all=True, filters={"status": ["running", "exited", "dead", "removing"]})


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
