"""Promises of `airflow zen stack list`, `show` and `use`."""

import json
import os
import re
import subprocess
import sys
from argparse import Namespace

import pytest

from airflow_zen.cli import stacks
from airflow_zen.config.settings import Settings
from tests.advice import advice_of
from tests.airflow_command import call


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "default"))
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", "http://ann:hush@mlflow:5000?token=hush2")
    file = tmp_path / "stacks.yaml"
    file.write_text(
        "stacks:\n  prod:\n    artifact_root: s3://ml/prod\n    mlflow_conn_id: mlflow_prod\n    cache: false\n"
    )
    return file


def call_command(function, **options):
    function.func(Namespace(**{"stack": None, "output": "json", "verbose": False, **options}))


def test_lists_all_stacks(capsys, tmp_path):
    """Every stack is listed with its root and MLflow, the active one is marked, and no secret is shown."""
    call_command(stacks.list_stacks)
    told = capsys.readouterr().out
    default, prod = json.loads(told)
    assert (default["stack"], default["active"], default["artifact root"]) == (
        "default",
        "active",
        str(tmp_path / "default"),
    )
    assert (prod["stack"], prod["active"], prod["artifact root"]) == ("prod", "", "s3://ml/prod")
    assert prod["mlflow"] == "mlflow_prod"
    assert "hush" not in told


def test_shows_the_source_of_each_option(capsys, file):
    """Each option is shown with its source: the file, the environment or airflow.cfg; secrets in URLs are masked."""
    call_command(stacks.show_stack, stack="prod")
    prod = {row["option"]: row for row in json.loads(capsys.readouterr().out)}
    assert (prod["artifact_root"]["value"], prod["artifact_root"]["from"]) == ("s3://ml/prod", str(file))
    assert (prod["cache"]["value"], prod["cache"]["from"]) == ("False", str(file))
    assert prod["mlflow_tracking_uri"]["value"] == ""
    call_command(stacks.show_stack)
    told = capsys.readouterr().out
    default = {row["option"]: row for row in json.loads(told)}
    assert default["artifact_root"]["from"] == "environment"
    assert default["mlflow_tracking_uri"]["value"] == "http://ann:***@mlflow:5000?token=***"
    assert "hush" not in told


def test_options_of_airflow_cfg(tmp_path):
    """`[zen]` of airflow.cfg is the default stack, and is shown as the source; the environment takes precedence."""
    (tmp_path / "airflow.cfg").write_text("[zen]\nartifact_root = s3://from-the-file/p\ncache_ttl = 60\n")
    # Airflow reads no airflow.cfg while it is tested itself.
    left_out = ("AIRFLOW__ZEN__ARTIFACT_ROOT", "AIRFLOW__CORE__UNIT_TEST_MODE")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    command = [sys.executable, "-m", "airflow", "zen", "stack", "show", "--output", "json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**environment, "AIRFLOW__ZEN__CACHE_TTL": "90"}
    )
    # What Airflow itself logs while it starts comes before.
    rows = json.loads(re.search(r"^\[.*", done.stdout, re.MULTILINE | re.DOTALL)[0])
    told = {row["option"]: (row["value"], row["from"]) for row in rows}
    assert told["artifact_root"] == ("s3://from-the-file/p", "airflow.cfg")
    assert told["cache_ttl"] == ("90", "environment")
    assert told["previews"] == ("True", "default")


def test_use_sets_the_active_stack(capsys, monkeypatch):
    """`use` makes a stack the active one; an unknown one is refused, and so is a change without effect."""
    call_command(stacks.use, stack="prod")
    assert "active stack is 'prod'" in capsys.readouterr().out
    assert Settings.read().artifact_root == "s3://ml/prod"
    with pytest.raises(SystemExit, match="known are 'default', 'prod'"):
        call_command(stacks.use, stack="nosuch")
    monkeypatch.setenv("AIRFLOW__ZEN__STACK", "default")
    variable, name = advice_of(
        lambda: call_command(stacks.use, stack="prod"),
        r"\[zen\] stack \(or (AIRFLOW__ZEN__STACK)\) is 'default' and takes precedence over .*Change it to '(\w+)', or "
        r"remove it and run this again\.",
    )
    monkeypatch.setenv(variable, name)
    assert Settings.read().stack == "prod"
    monkeypatch.delenv(variable)
    call_command(stacks.use, stack="prod")
    assert Settings.read().stack == "prod"


def test_errors_have_no_stack_trace():
    """On the command line an unknown stack is one line and exit code 1."""
    code, _, told = call("zen", "cache", "list", "--stack", "nosuch")
    assert code == 1
    assert "There is no stack 'nosuch'" in told
    assert "Traceback" not in told


@pytest.mark.airflow
def test_connections_of_airflows_database_are_found(airflow_db, tmp_path, monkeypatch):
    """A command finds a connection that only Airflow's database contains."""
    from airflow.models import Connection
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(Connection(conn_id="zen_in_database", conn_type="mlflow", host="http://127.0.0.1:9"))
    try:
        settings = {"AIRFLOW_HOME": str(airflow_db), "AIRFLOW__ZEN__MLFLOW_CONN_ID": "zen_in_database"}
        command = [sys.executable, "-m", "airflow", "zen", "models", "list"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **settings})
    finally:
        with create_session() as session:
            session.query(Connection).filter_by(conn_id="zen_in_database").delete()
    assert done.returncode == 1
    assert "MLflow at 'http://127.0.0.1:9' cannot be reached" in done.stderr
