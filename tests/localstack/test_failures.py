"""Promises of `airflow zen stack` after a service crashed, and of a start that is refused."""

import json
import os
import subprocess
import sys
from argparse import Namespace

import psutil
import pytest
from msgspec.structs import replace

from airflow_zen.cli import stack_up
from airflow_zen.localstack.processes import start_process
from airflow_zen.localstack.state import Layout, LocalStack, read_local_stack, write_state
from tests.airflow_command import call


@pytest.fixture
def directory(tmp_path):
    """A stack with only a scheduler, which was killed."""
    layout = Layout(tmp_path, tmp_path, 1, 2, "mark")
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    process = start_process(command, dict(os.environ), layout.log("scheduler"))
    killed = psutil.Process(process.pid)
    killed.kill()
    killed.wait()
    write_state(LocalStack(layout, {}, {"scheduler": process}))
    return tmp_path


def test_status_shows_crashed_services(directory, capsys):
    """A killed service has crashed, one that was never started is down; stderr contains the remedy, stdout stays JSON."""
    with pytest.raises(SystemExit) as ended:
        stack_up.status.func(Namespace(kind="local", directory=str(directory), output="json", verbose=False))
    told = capsys.readouterr()
    states = {row["service"]: row["state"] for row in json.loads(told.out)}
    assert (ended.value.code, states["scheduler"], states["triggerer"]) == (1, "crashed", "down")
    assert told.err.startswith("scheduler crashed. `airflow zen stack up local`")


def test_logs_warn_about_crashed_services(directory, capsys):
    """`logs` warns about a service that crashed."""
    stack_up.logs.func(Namespace(service=None, lines=1, compose=False, directory=str(directory), follow=False))
    assert "scheduler crashed." in capsys.readouterr().err


def test_environment_of_a_shell(directory, monkeypatch, capsys):
    """`eval` of `stack env` sets the stack's variables in a shell and removes other settings of Airflow and MLflow."""
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "of-another-server")
    stack = read_local_stack(directory)
    write_state(replace(stack, settings={"MINE": "a 'b' $c", "AIRFLOW__ZEN__CACHE": "False"}))
    stack_up.env.func(Namespace(directory=str(directory)))
    told = capsys.readouterr()
    assert "is not up" in told.err
    server = "$MLFLOW_TRACKING_URI|$MLFLOW_TRACKING_USERNAME|$MLFLOW_TRACKING_PASSWORD"
    show = f'echo "$AIRFLOW_HOME|{server}|$MINE|${{AIRFLOW__CORE__EXECUTOR-}}${{MLFLOW_TRACKING_TOKEN-}}"'
    done = subprocess.run(["sh", "-euc", f"{told.out}\n{show}"], capture_output=True, text=True, check=True)
    server = f"http://127.0.0.1:2|admin|{stack.layout.airflow_password}"
    assert done.stdout.strip() == f"{directory}/airflow|{server}|a 'b' $c|"
    assert "AIRFLOW__" not in "".join(line for line in told.out.splitlines() if line.startswith("export"))


def test_environment_without_a_stack(tmp_path):
    """Without a stack `stack env` prints nothing on stdout, and the error on stderr."""
    command = [sys.executable, "-m", "airflow", "zen", "stack", "env", "--directory", tmp_path]
    # In unit test mode Airflow logs that on stdout.
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "home"), "AIRFLOW__CORE__UNIT_TEST_MODE": "False"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Nothing was ever started in {tmp_path}." in done.stderr


def test_missing_dags_folder(tmp_path):
    """A DAGs folder that does not exist ends the command with 1 before anything is started or written; stderr names it."""
    options = ["--directory", tmp_path / "new", "--dags", tmp_path / "none"]
    code, _, told = call("zen", "stack", "up", "local", *options)
    assert code == 1
    assert f"The DAGs folder {str(tmp_path / 'none')!r} is not a directory." in told
    assert "Traceback" not in told
    assert not (tmp_path / "new").exists()
