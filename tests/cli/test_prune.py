"""Promises of `airflow zen artifacts prune`."""

import json
import os
import time
from argparse import Namespace

import pytest

from airflow_zen import save
from airflow_zen.cli.prune import prune_artifacts
from airflow_zen.config.settings import open_stack
from tests import airflow_command
from tests.advice import advice_of


@pytest.fixture(autouse=True)
def _root(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))


def call(**options):
    given = {
        "unreferenced": False, "older_than": None, "keep_last": None, "grace": "1d", "expire_mlflow_runs": False,
        "without_mlflow": False, "dry_run": False, "output": "table", "stack": None, "verbose": False, **options,
    }  # fmt: skip
    prune_artifacts.func(Namespace(**given))


@pytest.mark.airflow
def test_deletes_in_two_steps(airflow_db, capsys):
    """An artifact without references is noted, and deleted by a prune after the grace; each step is reported."""
    save({"nobody": "refers to this"})
    old = time.time() - 10
    for each in open_stack().store.transport.list("artifacts"):
        os.utime(open_stack().store.transport.local_path(each), (old, old))
    call(unreferenced=True, grace="1s", dry_run=True)
    assert "1 artifact (" in capsys.readouterr().out
    call(unreferenced=True, grace="1s")
    assert "unreferenced: a prune after 1.0 s or later deletes them" in capsys.readouterr().out
    time.sleep(1.1)
    call(unreferenced=True, grace="1s", output="json")
    told = {row["what"]: row["artifacts"] for row in json.loads(capsys.readouterr().out)}
    assert told == {"kept": "0", "unreferenced": "0", "deleted": "1", "leftovers": "0"}
    assert not list(open_stack().store.transport.list("artifacts"))


@pytest.mark.airflow
def test_prunes_while_mlflow_is_away(airflow_db, monkeypatch, capsys):
    """With --without-mlflow a prune does not ask an MLflow server that is not there."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    call(unreferenced=True, without_mlflow=True, output="json")
    assert {row["what"] for row in json.loads(capsys.readouterr().out)} == {
        "kept",
        "unreferenced",
        "deleted",
        "leftovers",
    }


@pytest.mark.airflow
def test_requires_a_selection(airflow_db):
    """Without an option that selects artifacts nothing is deleted; each option that the error names is one."""
    options = advice_of(
        call, r"Name what to delete: (--unreferenced) for .*; (--older-than 90d) and (--keep-last 5) for old runs"
    )
    for option in options:
        code, out, told = airflow_command.call("zen", "artifacts", "prune", *option.split())
        assert code == 0, out + told
