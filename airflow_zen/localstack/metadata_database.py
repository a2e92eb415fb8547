"""A metadata database that the user provides for the Airflow of a local stack."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from airflow_zen.localstack.state import StackError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

DATABASE_VARIABLE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
_EXAMPLE = "postgresql+psycopg2://airflow@127.0.0.1:5432/airflow"
# For each database, Airflow's extra, the driver in it for the URL, and the one that Airflow's API uses besides.
_EXTRAS_AND_DRIVERS = {"postgresql": ("postgres", "psycopg2", "asyncpg"), "mysql": ("mysql", "mysqldb", "aiomysql")}
_CONNECT_TIMEOUT = 5


def verify_database(url: str) -> str:
    """Return the URL of a database that Airflow can use; raise `StackError` with the reason if it cannot."""
    parsed = _parse_url(url)
    _verify_drivers(parsed)
    _verify_connection(parsed)
    return url


def _parse_url(url: str) -> URL:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StackError(f"--database takes a URL such as {_EXAMPLE}; the value is not a URL.") from error


def _verify_drivers(url: URL) -> None:
    from sqlalchemy.exc import NoSuchModuleError

    kind = url.get_backend_name()
    if kind not in _EXTRAS_AND_DRIVERS:
        raise StackError(
            f"--database takes a URL of PostgreSQL or MySQL such as {_EXAMPLE}, not of {kind!r}. "
            "The default is SQLite in the stack's directory."
        )
    extra, driver, async_driver = _EXTRAS_AND_DRIVERS[kind]
    try:
        url.get_dialect().import_dbapi()
        import_module(async_driver)
    except (ImportError, NoSuchModuleError) as error:
        raise StackError(
            f"No driver for {url.drivername!r}: {error}. Write {kind}+{driver}, whose drivers this installs: "
            f"pip install 'apache-airflow[{extra}]'."
        ) from error


def _verify_connection(url: URL) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    try:
        with create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": _CONNECT_TIMEOUT}).connect():
            return
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip()
        raise StackError(
            f"The database {url.render_as_string()} cannot be used: {reason}\nStart the server, create the database and its "
            "user, or correct --database."
        ) from error
