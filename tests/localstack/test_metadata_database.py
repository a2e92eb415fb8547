"""Promises of `stack up local --database`: a database that Airflow cannot use is an error before anything is started."""

import os
import re
import socket
from importlib.metadata import metadata

import pytest

from airflow_zen.localstack.metadata_database import verify_database
from airflow_zen.localstack.state import StackError, read_local_stack
from tests.advice import advice_of
from tests.airflow_command import call
from tests.servers.postgres import missing, postgres
from tests.servers.process import free_port


@pytest.fixture(scope="module")
def password_database():
    """The URL of a real PostgreSQL that requires a password, with the correct one."""
    if lacking := missing():
        reason = f"no {', '.join(lacking)} on the PATH: install PostgreSQL"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    with postgres(password="it-is-secret") as url:
        yield url


@pytest.mark.server
@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg2", "postgresql+psycopg"])
def test_a_usable_database(password_database, driver):
    """A PostgreSQL that accepts the connection is used, with either driver."""
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
def test_a_database_that_refuses_the_connection(password_database, good, bad, told):
    """A wrong password, or a missing database, is reported with the server's message, without a password."""
    with pytest.raises(StackError, match="create the database and its user, or correct --database") as refused:
        verify_database(password_database.replace(good, bad))
    assert told in str(refused.value)
    assert "it-is" not in str(refused.value)


def test_no_server(tmp_path):
    """If no server listens, the command ends with 1 and says so on stderr, and nothing was started or written."""
    url = f"postgresql+psycopg2://zen:it-is-secret@127.0.0.1:{free_port()}/airflow"
    directory = tmp_path / "stack"
    options = ["--directory", directory, "--dags", tmp_path, "--database", url]
    code, out, told = call("zen", "stack", "up", "local", *options)
    assert code == 1
    assert "Connection refused" in told
    assert "Traceback" not in told
    assert "it-is-secret" not in out + told
    assert read_local_stack(directory) is None
    assert not directory.exists()


def test_a_server_without_an_answer():
    """A server that accepts connections and never answers is a timeout after seconds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"postgresql+psycopg2://zen@127.0.0.1:{server.getsockname()[1]}/airflow"
        with pytest.raises(StackError, match="timeout expired"):
            verify_database(url)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("not a url", "takes a URL such as postgresql"),
        ("mssql+pyodbc://somewhere/airflow", "PostgreSQL or MySQL .*, not of 'mssql'"),
        ("postgresql+pg8000://somewhere/airflow", r"No driver for 'postgresql\+pg8000'"),
        ("postgresql+nonsense://somewhere/airflow", r"No driver for 'postgresql\+nonsense'"),
    ],
)
def test_invalid_databases(url, told):
    """An invalid URL, an unsupported database or a missing driver is refused with its remedy."""
    with pytest.raises(StackError, match=told):
        verify_database(url)


def test_the_driver_that_is_named():
    """With the driver that the error names the server is asked, and the packages that it names have the drivers."""
    server = f"zen@127.0.0.1:{free_port()}/airflow"
    driver, package, extra = advice_of(
        lambda: verify_database(f"postgresql+pg8000://{server}"),
        r"Write (\S+), whose drivers this installs: pip install '([\w-]+)\[(\w+)\]'\.",
    )
    with pytest.raises(StackError, match="Connection refused"):
        verify_database(f"{driver}://{server}")
    (provider,) = {
        line.split(";")[0].strip() for line in requirements(package) if re.search(f"extra == .{extra}.$", line)
    }
    assert {"psycopg2-binary", "asyncpg"} <= {re.split(r"[>;\[]", line)[0] for line in requirements(provider)}


def requirements(package):
    return metadata(re.split("[>=]", package)[0]).get_all("Requires-Dist")
