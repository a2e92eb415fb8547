"""Promises of `airflow zen models deployments`."""

from __future__ import annotations

import json
from argparse import Namespace

import pytest

from airflow_zen import save_artifact
from airflow_zen.cli.deployments import deployments

OPTIONS = {"name": None, "stack": None, "output": "json", "verbose": False, "lines": 100}


def test_deployments_are_listed_shown_and_stopped(service, monkeypatch, capsys):
    """The state of each deployment is what its server does now; the log is the server's; a stop ends it, and is shown."""
    monkeypatch.setenv("AIRFLOW__ZEN__DEPLOYMENTS_DIR", str(service.directory))
    for name, factor in [("m", 1.0), ("n", 2.0)]:
        save_artifact(service.deploy(name, factor), f"deployments/{name}")

    def run(action: str, name: str | None = None) -> str:
        deployments.func(Namespace(**{**OPTIONS, "action": action, "name": name}))
        return capsys.readouterr().out

    listed = json.loads(run("list"))
    assert [(row["name"], row["version"], row["state"]) for row in listed] == [
        ("m", "1.0", "serving"),
        ("n", "2.0", "serving"),
    ]
    assert "loading factor 2.0" in run("logs", "n")
    assert run("stop", "m") == "Deployment 'm' is stopped.\n"
    assert {row["name"]: row["state"] for row in json.loads(run("list"))} == {"m": "stopped", "n": "serving"}
    with pytest.raises(SystemExit, match="needs the name of a deployment. There are: m, n"):
        run("stop")
    service.end()
    assert json.loads(run("list", "n"))[0]["state"] == "the deployment service does not run"
