"""One real Airflow and MLflow, which the tutorial started and used: used again, started again, crashed."""

import json
import os
import subprocess
import sys
from argparse import Namespace

import psutil
import pytest

from airflow_zen.cli import stack_up
from airflow_zen.localstack import stack as local_stack
from airflow_zen.localstack.processes import find_marked_processes, start_process, stop_processes
from airflow_zen.localstack.services import DEPLOYMENTS, HttpError, airflow_token, request_json, service_environment
from airflow_zen.localstack.stack import start_local_stack
from airflow_zen.localstack.state import StackError, read_local_stack
from tests.deployment.conftest import wait_until
from tests.servers.airflow_api import AirflowApi, WaitTimeout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

DAG = """
from airflow.sdk import dag, task


@task
def double(number):
    print("doubling", number)
    return 2 * number


@task
def fail():
    raise ValueError("as it should")


@dag(schedule=None)
def numbers():
    double.expand(number=[1, 2])


@dag(schedule=None)
def failing():
    fail()


numbers()
failing()
"""


@pytest.fixture(scope="module")
def directory(tutorial):
    return tutorial.directory


@pytest.fixture(scope="module")
def dags(tutorial):
    dags = tutorial.folder / "dags"
    (dags / "numbers.py").write_text(DAG)
    return dags


@pytest.fixture
def stack(directory):
    return read_local_stack(directory)


@pytest.fixture
def airflow(stack, dags):
    return AirflowApi(stack.layout.airflow_url, stack.layout.airflow_password)


def test_is_healthy(stack, airflow):
    """When `up` returns, every component of Airflow is healthy and MLflow answers."""
    assert {name: part["status"] for name, part in airflow.health().items()} == dict.fromkeys(
        ("metadatabase", "scheduler", "triggerer", "dag_processor"), "healthy"
    )
    assert request_json("GET", f"{stack.layout.mlflow_url}/health") == "OK"


def test_airflow_asks_for_the_password(stack):
    """Without the password, which only the owner of the directory can read, another user of the machine is nobody."""
    assert stack.layout.airflow_passwords.stat().st_mode & 0o777 == 0o600
    url = stack.layout.airflow_url
    for method, path in (("GET", "/auth/token"), ("GET", "/api/v2/dags"), ("POST", "/api/v2/dags/failing/dagRuns")):
        with pytest.raises(HttpError, match="with 40[13]"):
            request_json(method, f"{url}{path}", {"logical_date": None} if method == "POST" else None)
    with pytest.raises(HttpError, match="401"):
        airflow_token(url, "wrong")


def test_mlflow_asks_for_the_password(stack):
    """MLflow answers to the user of the stack, and to nobody else."""
    path = "api/2.0/mlflow/experiments/get?experiment_id=0"
    found = request_json("GET", f"{stack.layout.mlflow_uri}/{path}")
    assert found["experiment"]["name"] == "Default"
    with pytest.raises(HttpError, match="with 401.*stack up local"):
        request_json("GET", f"{stack.layout.mlflow_url}/{path}")


def test_runs_a_dag(airflow):
    """A DAG of the folder is parsed, not paused, triggered and run, and its results and logs can be read."""
    airflow.wait_for_dag("numbers", timeout=240)
    run = airflow.wait_for_dag_run(airflow.trigger("numbers", {"asked": True}), timeout=240)
    assert run.state == "success"
    tasks = airflow.task_instances(run)
    assert {task.map_index: airflow.xcom(run, task) for task in tasks} == {0: 2, 1: 4}
    assert all(task.duration for task in tasks)
    assert "doubling" in airflow.log(run, tasks[0])


def test_status_and_logs(stack, directory, capsys):
    """`stack status` shows every service with its URL, `stack logs` shows the end of a service's log."""
    stack_up.status.func(Namespace(kind="local", directory=str(directory), output="json", verbose=False))
    told = {row["service"]: row for row in json.loads(capsys.readouterr().out)}
    assert {row["state"] for row in told.values()} == {"up"}
    assert told["mlflow"]["address"] == stack.layout.mlflow_url
    logs = {"compose": False, "directory": str(directory), "follow": False}
    stack_up.logs.func(Namespace(service="mlflow", lines=2, **logs))
    assert len(capsys.readouterr().out.splitlines()) == 2
    stack_up.logs.func(Namespace(service=None, lines=1, **logs))
    assert "== scheduler ==" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no log of 'worker'; there are api-server"):
        stack_up.logs.func(Namespace(service="worker", lines=1, **logs))


def test_log_of_a_failure(airflow):
    """The log of a failed task contains the exception and its location; no XCom was pushed."""
    run = airflow.wait_for_dag_run(airflow.trigger("failing"), timeout=240)
    [task] = airflow.task_instances(run)
    assert (run.state, task.state) == ("failed", "failed")
    assert "ValueError: as it should" in airflow.log(run, task)
    assert "in fail" in airflow.log(run, task)
    assert airflow.xcom(run, task) is None


def test_dag_file_that_cannot_be_imported(airflow, dags):
    """Waiting for a DAG whose file cannot be imported ends early, with the stack trace."""
    broken = dags / "broken.py"
    broken.write_text("from airflow.sdk import dag\nimport no_such_library")
    with pytest.raises(WaitTimeout, match=r"broken.py cannot be imported(.|\n)*no_such_library"):
        airflow.wait_for_dag("broken", timeout=240, import_error_grace=0)
    broken.unlink()


def test_up_twice(stack, airflow, directory, dags, capsys):
    """A second `stack up local` starts nothing: the processes are the same, and their URLs are printed again."""
    asked = {
        "kind": "local",
        "directory": str(directory),
        "dags": str(dags),
        "set": None,
        "s3": False,
        "timeout": 60.0,
        "database": None,
    }
    airflow.wait_for_dag("failing", timeout=240)
    stack_up.up.func(Namespace(**asked))
    assert read_local_stack(directory) == stack
    told = capsys.readouterr().out
    assert f"{stack.layout.airflow_url} (user admin, password {stack.layout.airflow_password})" in told
    assert told.splitlines()[-2:] == ["  airflow dags trigger failing", "  airflow zen runs show failing"]
    assert f"zen stack env --directory {directory})" in told.splitlines()[-3]


def test_shell_reaches_it(stack, directory, tmp_path):
    """After `eval` of `stack env` a shell's Airflow has the stack's options, store and MLflow."""
    script = (
        f'eval "$({sys.executable} -m airflow zen stack env --directory {directory})"\n'
        "airflow zen runs list wine --output plain\nairflow zen doctor --output plain"
    )
    other = {"HOME": str(tmp_path), "AIRFLOW_HOME": str(tmp_path / "other"), "AIRFLOW__CORE__UNIT_TEST_MODE": "False"}
    environment = {**os.environ, **other}
    done = subprocess.run(["bash", "-ec", script], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    words = " ".join(done.stdout.split())
    for told in ("wine manual__", "this is its installation", f"mlflow answers ok {stack.layout.mlflow_url}"):
        assert told in words


def test_refuses_other_settings_while_up(stack, directory, dags):
    """A running stack is not changed silently."""
    with pytest.raises(StackError, match="stop it before"):
        start_local_stack(directory, dags, {"AIRFLOW__ZEN__CACHE": "False"})
    with pytest.raises(StackError, match="no S3 server"):
        start_local_stack(directory, dags, s3=True)


def test_restarts_a_crashed_service(stack, directory, dags):
    """A service that crashed is started again, with a report on it; the children it left are stopped, others are left alone."""
    broken = psutil.Process(stack.processes["triggerer"].pid)
    children = broken.children(recursive=True)
    broken.kill()
    broken.wait()
    told = []
    restarted = start_local_stack(directory, dags, on_progress=told.append)
    assert [told[0].done, told[0].total] == [0, len(stack.processes)]
    assert "waiting for" in told[0].note
    assert "triggerer" in told[-1].note
    assert [progress.done for progress in told] == sorted(progress.done for progress in told)
    assert restarted.processes["triggerer"].is_running()
    assert restarted.processes["triggerer"].pid != stack.processes["triggerer"].pid
    assert not any(child.is_running() for child in children)
    assert restarted.processes["scheduler"] == stack.processes["scheduler"]


def test_up_keeps_the_deployment_service_of_a_task(stack, directory, dags):
    """The service that the first deployment of a running stack started serves on after `up`, and is one of the stack's."""
    command, log = DEPLOYMENTS.command(stack.layout), stack.layout.log(DEPLOYMENTS.name)
    service = start_process(command, service_environment(stack.layout, stack.settings), log)
    try:
        assert wait_until(lambda: DEPLOYMENTS.is_ready(stack.layout, service), 60), log.read_text()
        again = start_local_stack(directory, dags)
        assert service.is_running()
        assert abs(again.processes[DEPLOYMENTS.name].started - service.started) < 2
        assert again.processes[DEPLOYMENTS.name].pid == service.pid
        assert read_local_stack(directory) == again
    finally:
        stop_processes([service], "")
    assert DEPLOYMENTS.name not in start_local_stack(directory, dags).processes


def test_service_that_cannot_start(directory, tmp_path):
    """A service that fails is named with the end of its log, and nothing of the stack keeps running."""
    with pytest.raises(StackError, match=r"db-migrate ended with 1(.|\n)*no_such_driver"):
        start_local_stack(
            tmp_path / "broken", tmp_path, {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "no_such_driver:///x"}, timeout=240
        )
    broken = read_local_stack(tmp_path / "broken")
    assert broken.running_processes() == {}
    assert find_marked_processes(broken.layout.mark) == []


def test_down_of_nothing(tmp_path, capsys):
    """Without a stack, `down` says so and succeeds."""
    stack_up.down.func(Namespace(kind="local", directory=str(tmp_path)))
    assert "Nothing was ever started" in capsys.readouterr().out


def test_imports_no_airflow():
    """The local stack imports Airflow only in the processes that it starts."""
    code = f"import sys, {local_stack.__name__}; sys.exit('airflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0
