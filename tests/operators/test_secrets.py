"""Promises about secrets that Airflow gives to steps: connections, variables and `mask_secret`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import BaseHook
from airflow.sdk.log import mask_secret

from airflow_zen import ml_step
from airflow_zen.config.settings import open_stack
from airflow_zen.runs.step_run import StepRunId
from tests.harness import run_dag
from tests.operators.pipelines import pipeline

PASSWORD = "corr3ct-horse/battery"
URI = "postgresql://zen:corr3ct-horse%2Fbattery@db:5432/flights"


@ml_step
def connect(uri: str, options: dict) -> int:
    return len(uri)


@ml_step
def fail(word: str) -> int:
    raise ConnectionError(f"cannot log in with {word}")


@ml_step
def read(connection: Any) -> str:
    return str(connection.login)


@ml_step
def log_in(name: str) -> int:
    mask_secret(f"session-of-{name}")
    raise ConnectionError(f"session-of-{name} has expired")


def _records(root: Path) -> str:
    files = [file for folder in ("runs", "cache") for file in (root / folder).rglob("*") if file.is_file()]
    return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


@pytest.fixture
def connection(monkeypatch):
    """A connection with a password, in the environment."""
    monkeypatch.setenv("AIRFLOW_CONN_DB", URI)


@pytest.mark.usefixtures("connection")
def test_passwords_of_connections_in_templates(root):
    """A rendered password is in no record and no key history, as the whole, in a URI, in a dict and in an error."""

    def build():
        connect("{{ conn.db.get_uri() }}", {"dsn": "user=zen pw={{ conn.db.password }}"})
        fail("{{ conn.db.password }}")

    run = run_dag(pipeline(build))
    assert run.states == {"connect": "success", "fail": "failed"}
    recorded = open_stack().records.get(StepRunId("d", "manual__1", "connect")).parameters
    assert recorded == {
        "uri": "postgres://zen:***@db:5432/flights",
        "options": {"dsn": "user=zen pw=***"},
    }
    assert (
        open_stack().records.get(StepRunId("d", "manual__1", "fail")).error == "ConnectionError: cannot log in with ***"
    )
    texts = _records(Path(root))
    assert PASSWORD not in texts
    assert json.dumps(PASSWORD)[1:-1] not in texts
    assert "corr3ct-horse" not in texts


@pytest.mark.usefixtures("connection")
def test_connections(root):
    """A connection as an argument is recorded by its id."""
    run = run_dag(pipeline(lambda: read("{{ conn.get('db') }}"), render_template_as_native_obj=True))
    assert run.states == {"read": "success"}, run.tasks[0].error
    record = open_stack().records.get(StepRunId("d", "manual__1", "read"))
    assert record.parameters == {"connection": "connection 'db'"}
    assert "corr3ct-horse" not in _records(Path(root))


def test_what_code_declares_as_secret(root):
    """What a function masks with Airflow's `mask_secret` is in no record, not even in the text of its exception."""
    run = run_dag(pipeline(lambda: log_in("ada")))
    assert run.states == {"log_in": "failed"}
    record = open_stack().records.get(StepRunId("d", "manual__1", "log_in"))
    assert (record.error, record.parameters) == ("ConnectionError: *** has expired", {"name": "ada"})


def test_a_hook_in_a_step(root, connection):
    """What a step reads itself is no argument; an error that quotes it is recorded without it."""

    @ml_step
    def query() -> int:
        raise ConnectionError(f"refused {BaseHook.get_connection('db').password}")

    run_dag(pipeline(query))
    assert open_stack().records.get(StepRunId("d", "manual__1", "query")).error == "ConnectionError: refused ***"
