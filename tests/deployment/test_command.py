"""Promises of `airflow zen models deployments`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from airflow_zen import save_artifact
from airflow_zen.cli.deployments import deployments
from airflow_zen.config.settings import open_stack
from airflow_zen.deployment.unfinished import UnfinishedDeployments
from tests.deployment.conftest import wait_until
from tests.deployment.light_target import LightServing
from tests.deployment.test_failures import deploying
from tests.harness import run_dag

OPTIONS = {"name": None, "stack": None, "output": "json", "verbose": False, "lines": 100}


def run(capsys, action: str, name: str | None = None) -> str:
    capsys.readouterr()
    deployments.func(Namespace(**{**OPTIONS, "action": action, "name": name}))
    return capsys.readouterr().out


def test_deployments_are_listed_shown_and_stopped(service, monkeypatch, capsys):
    """The state of each deployment is what its server does now; the log is the server's; a stop ends it, and is shown."""
    monkeypatch.setenv("AIRFLOW__ZEN__DEPLOYMENTS_DIR", str(service.directory))
    for name, factor in [("m", 1.0), ("n", 2.0)]:
        save_artifact(service.deploy(name, factor), f"deployments/{name}")

    listed = json.loads(run(capsys, "list"))
    assert [(row["name"], row["version"], row["state"]) for row in listed] == [
        ("m", "1.0", "serving"),
        ("n", "2.0", "serving"),
    ]
    assert "loading factor 2.0" in run(capsys, "logs", "n")
    assert run(capsys, "stop", "m") == "Deployment 'm' is stopped.\n"
    assert {row["name"]: row["state"] for row in json.loads(run(capsys, "list"))} == {"m": "stopped", "n": "serving"}
    with pytest.raises(SystemExit, match="needs the name of a deployment. There are: m, n"):
        run(capsys, "stop")
    service.end()
    assert json.loads(run(capsys, "list", "n"))[0]["state"] == "the deployment service does not run"


FIRST_DEPLOYMENT = """
from tests.deployment.test_failures import deploying
from tests.harness import run_dag
run_dag(deploying(1.0, start=600))
"""


@pytest.mark.parametrize("end", ["stop", "down"])
def test_killed_first_deployment_is_listed_and_ends(service, monkeypatch, capsys, end):
    """What a killed task has left of a first deployment is unfinished in the list; a stop ends it, and so does the service."""
    monkeypatch.setenv("AIRFLOW__ZEN__DEPLOYMENTS_DIR", str(service.directory))
    variables = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    task = subprocess.Popen([sys.executable, "-c", FIRST_DEPLOYMENT], env=variables)
    started = wait_until(lambda: len(service.servers()) == 2 or task.poll() is not None, 240)
    task.kill()
    assert (started, task.wait()) == (True, -signal.SIGKILL)
    (row,) = json.loads(run(capsys, "list"))
    assert (row["name"], row["target"], row["state"]) == ("m", "LightServing", "unfinished: starting")
    if end == "stop":
        assert run(capsys, "stop", "m") == "Deployment 'm' is stopped.\n"
        assert not (service.directory / "m").exists()
    else:
        service.end()
        service.start()
    assert wait_until(lambda: not service.servers(), 20)
    assert json.loads(run(capsys, "list")) == []


def test_unfinished_deployment_ends_where_it_is_deployed(service, monkeypatch, capsys):
    """A deployment that a later one has finished is no longer unfinished."""
    monkeypatch.setenv("AIRFLOW__ZEN__DEPLOYMENTS_DIR", str(service.directory))
    unfinished = UnfinishedDeployments(open_stack(lineage=False).store.transport)
    unfinished.begin(service.spec("m", 1.0).request, LightServing())
    assert [each.version for each in unfinished] == ["1.0"]
    assert run_dag(deploying(1.0)).states["deploy_m"] == "success"
    assert [*unfinished] == []
    (row,) = json.loads(run(capsys, "list"))
    assert row["state"] == "serving"
