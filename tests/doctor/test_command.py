"""Promises of `airflow zen doctor` and `airflow zen materializers`."""

import json
import os
import sys
import time
from argparse import Namespace

import pytest

from airflow_zen.cli import doctor, materializers
from airflow_zen.doctor import airflow as installation_check
from airflow_zen.doctor.findings import FindingState
from airflow_zen.localstack.processes import find_marked_processes, start_process, stop_processes
from airflow_zen.localstack.state import Layout, LocalStack, write_state


@pytest.fixture(autouse=True)
def _root(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))


def run_doctor(capsys, **options):
    capsys.readouterr()
    doctor.doctor.func(Namespace(**{"stack": None, "output": "json", "verbose": False, **options}))
    return {row["check"]: row for row in json.loads(capsys.readouterr().out)}


def test_a_sound_installation(capsys):
    """Versions, provider, plugin, options with their source, and the store are all checked, and have no problem."""
    told = run_doctor(capsys)
    for check in ("package apache-airflow", "package mlflow", "provider", "plugin", "store write"):
        assert told[check]["state"] == "ok", told[check]
    assert told["[zen] artifact_root"]["detail"].endswith("root (environment)")


def test_names_the_installation_and_a_local_stack(capsys, tmp_path):
    """The installation is named, and a local stack that is up with the command by which a shell uses it."""
    layout = Layout(tmp_path / "a stack", tmp_path, 1, 2, "mark")
    layout.airflow_home.mkdir(parents=True)
    environment = {**os.environ, "AIRFLOW_ZEN_STACK": layout.mark, "AIRFLOW_HOME": str(layout.airflow_home)}
    process = start_process(
        [sys.executable, "-c", "import time; time.sleep(600)"], environment, layout.log("scheduler")
    )
    write_state(LocalStack(layout, {}, {"scheduler": process}))
    try:
        # The system shows the environment of a program a moment after its start.
        while not find_marked_processes(layout.mark):
            time.sleep(0.01)
        capsys.readouterr()
        doctor.doctor.func(Namespace(stack=None, output="json", verbose=False))
        rows = json.loads(capsys.readouterr().out)
    finally:
        stop_processes([process], layout.mark)
    assert f"{sys.prefix}, AIRFLOW_HOME {os.environ['AIRFLOW_HOME']}" in rows[0]["detail"]
    [ours] = [row for row in rows if row["check"] == "local stack" and str(layout.directory) in row["detail"]]
    assert "is up: Airflow http://127.0.0.1:1" in ours["detail"]
    assert f"eval \"$(airflow zen stack env --directory '{layout.directory}')\"" in ours["remedy"]


def test_slow_options_are_reported(capsys, monkeypatch, tmp_path):
    """An option that makes tasks slow is reported with its remedy; so is a local cache without enough disk space."""
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTE_TASKS_NEW_PYTHON_INTERPRETER", "True")
    told = run_doctor(capsys)
    assert told["[core] execute_tasks_new_python_interpreter"]["state"] == "warning"
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", "memory://root")
    monkeypatch.setenv("AIRFLOW__ZEN__LOCAL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("AIRFLOW__ZEN__LOCAL_CACHE_SIZE", "9000T")
    assert run_doctor(capsys)["local cache"]["state"] == "warning"


def test_an_invalid_option_ends_with_one(capsys, monkeypatch):
    """An invalid option is reported, with exit code 1."""
    monkeypatch.setenv("AIRFLOW__ZEN__CACHE", "perhaps")
    with pytest.raises(SystemExit) as ended:
        run_doctor(capsys)
    assert ended.value.code == 1
    assert "[zen] cache must be true or false" in capsys.readouterr().out


def test_versions_are_compared_with_the_requirements(monkeypatch):
    """A library that is too old, or missing, is reported with the command that installs it."""
    needs = ["mlflow>=99", "no-such-library>=1", "pandas>=2.2", 'torch>=9; extra == "torch"']
    monkeypatch.setattr(installation_check, "requires", lambda name: needs)
    told = {finding.check: finding for finding in installation_check.installation_findings()}
    assert told["package mlflow"].state is told["package no-such-library"].state is FindingState.FAILED
    assert told["package mlflow"].remedy == "pip install 'mlflow>=99'"
    assert told["package pandas"].state is FindingState.OK
    assert "package torch" not in told


def test_missing_bytecode_is_reported(tmp_path, monkeypatch):
    """If Airflow's modules are not compiled, the finding names the cost and the command that compiles them."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    (found,) = (each for each in installation_check.installation_findings() if each.check == "bytecode")
    assert found.state is FindingState.WARNING
    assert "PYTHONDONTWRITEBYTECODE" in found.detail
    assert "compileall" in found.remedy


def test_materializers_are_listed_with_what_they_need(capsys, monkeypatch):
    """Each encoding is listed with its types, its library, whether that is installed, the extra, and its distribution."""
    ask = Namespace(stack=None, output="json", verbose=False)
    materializers.list_materializers.func(ask)
    told = {row["encoding"]: row for row in json.loads(capsys.readouterr().out)}
    assert told["pandas.parquet@1"]["installed"] == "yes"
    assert "pandas.DataFrame" in told["pandas.parquet@1"]["saves"]
    assert told["torch.module@1"]["extra"] == "torch"
    assert told["python.json@1"]["offered by"] == "airflow-provider-zen"
    monkeypatch.setattr(materializers, "find_spec", lambda name: None)
    materializers.list_materializers.func(ask)
    told = {row["encoding"]: row for row in json.loads(capsys.readouterr().out)}
    assert (told["pandas.parquet@1"]["installed"], told["python.json@1"]["installed"]) == ("no", "yes")
