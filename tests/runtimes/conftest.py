"""Interpreters that have no Airflow, and DAG files loaded as Airflow loads them."""

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_zen.runtimes import InProcess, Python, Virtualenv
from tests.harness import run_dag
from tests.runtimes.containers import import_python_image, in_docker
from tests.runtimes.pods import (  # noqa: F401 - fixtures
    api,
    cluster,
    connections,
    in_pods,
    run_pod,
    start_task,
    trigger,
)
from tests.runtimes.worker import start_file, start_process, worker  # noqa: F401 - fixtures

SMALL = ("blake3", "msgspec")
TABLES = (*SMALL, "fsspec", "numpy<2", "pandas<3", "pyarrow<24")


def shared_folder():
    """Return a folder that later test runs on this machine find again."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cache, "airflow-zen/test-environments")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def make_environment(*requirements):
    """Return the interpreter of a virtual environment, which later test runs on this machine use again."""
    key = hashlib.sha256(json.dumps([sys.version, requirements]).encode()).hexdigest()[:16]
    folder = shared_folder()
    interpreter, done = folder / key / "bin/python", folder / key / "done"
    with (folder / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            uv = Path(sys.executable).with_name("uv")
            subprocess.run([uv, "venv", "-q", "--clear", "-p", sys.executable, folder / key], check=True)
            subprocess.run([uv, "pip", "install", "-q", "-p", interpreter, *requirements], check=True)
            done.touch()
    return str(interpreter)


def other_releases(oldest=(3, 12)):
    """Yield releases of Python from `oldest` on, and an interpreter of each: of the PATH, or of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    folders = [*map(Path, os.environ["PATH"].split(os.pathsep)), *pyenv.glob("*/bin")]
    for path in sorted(path for folder in folders for path in folder.glob("python3.*")):
        found = re.fullmatch(r"python(3)\.(\d+)", path.name)
        if found and (int(found[1]), int(found[2])) >= oldest and "shims" not in path.parts:
            yield found[0].removeprefix("python"), path


@pytest.fixture(scope="session")
def small_python():
    """An interpreter with what every step needs, and no more."""
    return make_environment(*SMALL)


@pytest.fixture(scope="session")
def tables_python():
    """An interpreter with pandas 2 and numpy 1."""
    return make_environment(*TABLES)


@pytest.fixture(scope="session")
def python_engine(docker_engine):
    """A Docker engine that has the image into which Python is mounted."""
    import_python_image(docker_engine)
    return docker_engine


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A fresh artifact root, and no MLflow."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("AIRFLOW__ZEN__ENVIRONMENTS_DIR", str(shared_folder() / "virtualenvs"))
    return tmp_path / "root"


@pytest.fixture
def load_dag_file(tmp_path, monkeypatch):
    """Load a DAG file from its text under the name that Airflow gives it; return its module."""
    loaded = []
    # Bytecode would hide a text of the same length that is written in the same second.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(text, name="pipeline"):
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        module_name = f"unusual_prefix_{hashlib.sha1(str(path).encode()).hexdigest()}_{name}"
        spec = importlib.util.spec_from_file_location(module_name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        loaded.append(module_name)
        # Not by the loader, whose stored bytecode of a file that is written twice in a second would be the first's.
        exec(compile(text, path, "exec"), vars(module))
        return module

    yield load
    for name in set(loaded):
        del sys.modules[name]


@pytest.fixture
def run_file(load_dag_file, root):
    """Run the DAG of a file, with its steps in a runtime; return the run."""

    def run(text, runtime, **options):
        module = load_dag_file(text)
        conf = {"zen": {"runtime": repr(runtime) if not isinstance(runtime, str) else runtime}}
        return run_dag(module.pipeline(), conf=conf, **options)

    return run


@pytest.fixture
def run_small(run_file, small_python):
    """Run the DAG of a file with the interpreter that has no libraries."""
    return lambda text, **options: run_file(text, Python(small_python), **options)


@pytest.fixture
def import_folder(tmp_path, monkeypatch):
    """A folder of the import path, whose modules are forgotten after the test."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__path__", getattr(sys.modules[name], "__file__", ""))):
            del sys.modules[name]


RUNTIMES = ("in-process", "python", "virtualenv", "docker", "kubernetes")


@pytest.fixture(params=RUNTIMES)
def small(request):
    """Each runtime, without libraries beside what every step needs."""
    return _runtime(request, "small_python")


@pytest.fixture(params=RUNTIMES)
def tables(request):
    """Each runtime, with pandas."""
    return _runtime(request, "tables_python")


def _runtime(request, interpreter):
    if request.param == "in-process":
        return InProcess()
    if request.param == "virtualenv":
        return Virtualenv(["pandas<3"])
    path = request.getfixturevalue(interpreter)
    if request.param == "python":
        return Python(path)
    if request.param == "kubernetes":
        return in_pods(request, path)
    return in_docker(request.getfixturevalue("python_engine"), path)
