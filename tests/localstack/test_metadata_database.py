"""Promises of `stack up local --database`: what Airflow cannot use is said before anything is started."""

import os
import socket

import pytest

from airflow_zen.localstack.metadata_database import redact_url, verify_database
from airflow_zen.localstack.stack import main, read_local_stack
from airflow_zen.localstack.state import StackError
from tests.servers.postgres import missing, postgres
from tests.servers.process import free_port


@pytest.fixture(scope="module")
def password_database():
    """The URL of a real PostgreSQL that asks for a password, with the right one."""
    if lacking := missing():
        reason = f"no {', '.join(lacking)} on the PATH: install PostgreSQL"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    with postgres(password="it-is-secret") as url:
        yield url


@pytest.mark.server
@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg2", "postgresql+psycopg"])
def test_a_database_that_can_be_used(password_database, driver):
    """A PostgreSQL that lets us in is taken, by either driver."""
    url = password_database.replace("postgresql+psycopg2", driver)
    assert verify_database(url) == url


@pytest.mark.server
@pytest.mark.parametrize(
    ("good", "bad", "told"),
    [
        ("it-is-secret", "it-is-wrong", 'password authentication failed for user "zen"'),
        ("/postgres", "/nowhere", 'database "nowhere" does not exist'),
    ],
)
def test_a_database_that_refuses(password_database, good, bad, told):
    """A wrong password, or a database that is not there, is told in the server's words, and no password is."""
    with pytest.raises(StackError, match="create the database and its user, or correct --database") as refused:
        verify_database(password_database.replace(good, bad))
    assert told in str(refused.value)
    assert "it-is" not in str(refused.value)


def test_nobody_is_there(tmp_path, capsys):
    """Where no server listens the command ends with 1, says so, and has started and written nothing."""
    url = f"postgresql+psycopg2://zen:it-is-secret@127.0.0.1:{free_port()}/airflow"
    directory = tmp_path / "stack"
    assert main(["up", "--directory", str(directory), "--dags", str(tmp_path), "--database", url]) == 1
    told = capsys.readouterr().err
    assert "Connection refused" in told
    assert "it-is-secret" not in told
    assert read_local_stack(directory) is None


def test_a_server_that_never_answers():
    """A port that takes connections and says nothing is given up after seconds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"postgresql+psycopg2://zen@127.0.0.1:{server.getsockname()[1]}/airflow"
        with pytest.raises(StackError, match="timeout expired"):
            verify_database(url)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("not a url", "takes a URL such as postgresql"),
        ("mssql+pyodbc://somewhere/airflow", "PostgreSQL or MySQL, not in 'mssql'"),
        ("postgresql+pg8000://somewhere/airflow", r"No driver for 'postgresql\+pg8000'.*apache-airflow\[postgres\]"),
        ("postgresql+nonsense://somewhere/airflow", r"No driver for 'postgresql\+nonsense'"),
    ],
)
def test_what_is_missing(url, told):
    """What is no URL, no database of Airflow's, or has no driver here, is refused with what to write or install."""
    with pytest.raises(StackError, match=told):
        verify_database(url)


def test_no_password_is_shown():
    """The address is shown without its password."""
    assert redact_url("postgresql://zen:it-is-secret@db:5432/airflow") == "postgresql://zen:***@db:5432/airflow"
