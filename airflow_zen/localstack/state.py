"""The state of a local stack between commands: `stack.json` in its directory."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_urlsafe

import msgspec

from airflow_zen.errors import ZenError
from airflow_zen.localstack.processes import Process, marked_environments

AIRFLOW_USER = "admin"
_STATE_FILE = "stack.json"


class StackError(ZenError, RuntimeError):
    """The local stack cannot be started or stopped."""


class Layout(msgspec.Struct, frozen=True):
    """The directory and the ports of a stack.

    mark: inherited by all processes of the stack, and identifies them. s3_server: the program that serves S3, empty if the
    artifact root is a directory. s3_ports: the ports of that program; clients use the first.
    """

    directory: Path
    dags: Path
    airflow_port: int
    mlflow_port: int
    mark: str
    s3_server: str = ""
    s3_ports: tuple[int, ...] = ()

    @property
    def airflow_url(self) -> str:
        """URL of Airflow's UI and API."""
        return f"http://127.0.0.1:{self.airflow_port}"

    @property
    def mlflow_url(self) -> str:
        """URL of the MLflow server."""
        return f"http://127.0.0.1:{self.mlflow_port}"

    @property
    def mlflow_uri(self) -> str:
        """URL of the MLflow server with user and password, for clients."""
        return f"http://{AIRFLOW_USER}:{self.airflow_password}@127.0.0.1:{self.mlflow_port}"

    @property
    def s3_url(self) -> str:
        """URL of the S3 server; empty without one."""
        return f"http://127.0.0.1:{self.s3_ports[0]}" if self.s3_ports else ""

    @property
    def airflow_home(self) -> Path:
        """Directory of Airflow's configuration and, with SQLite, its metadata database."""
        return self.directory / "airflow"

    @property
    def airflow_passwords(self) -> Path:
        """File with the password of the stack's only user, readable by its owner only; created at the first call."""
        file = self.directory / "airflow-passwords.json"
        load_or_create_secrets(file, lambda: {AIRFLOW_USER: token_urlsafe(12)})
        return file

    @property
    def airflow_password(self) -> str:
        """Password of the stack's only user, in Airflow and in MLflow."""
        return msgspec.json.decode(self.airflow_passwords.read_bytes(), type=dict[str, str])[AIRFLOW_USER]

    @property
    def deployments(self) -> Path:
        """Directory of the deployment service."""
        return self.directory / "deployments"

    def log(self, name: str) -> Path:
        """Return the log file of a service."""
        return self.directory / "logs" / f"{name}.log"


class LocalStack(msgspec.Struct, frozen=True):
    """A stack as it was started.

    settings: environment variables of every service. processes: by the name of their service.
    """

    layout: Layout
    settings: Mapping[str, str]
    processes: Mapping[str, Process]

    def running_processes(self) -> dict[str, Process]:
        """Return the processes that still run, by the name of their service."""
        return {name: process for name, process in self.processes.items() if process.is_running()}

    def crashed_services(self) -> list[str]:
        """Return the services that ended without `down`."""
        return [name for name, process in self.processes.items() if not process.is_running()]


def read_local_stack(directory: Path) -> LocalStack | None:
    """Return the stack of a directory; None if none was ever started there."""
    with suppress(FileNotFoundError):
        text = (directory.resolve() / _STATE_FILE).read_bytes()
        return msgspec.json.decode(text, type=LocalStack, dec_hook=lambda kind, value: kind(value))
    return None


def running_layouts() -> list[Layout]:
    """Return the layouts of all local stacks of this user that are up, by directory."""
    homes = {Path(environment.get("AIRFLOW_HOME", "")) for environment in marked_environments()}
    stacks = filter(None, (read_local_stack(home.parent) for home in homes))
    return sorted((stack.layout for stack in stacks if stack.running_processes()), key=lambda each: each.directory)


def write_state(stack: LocalStack) -> None:
    """Write the stack's state, readable by its owner only: settings may contain credentials."""
    new = stack.layout.directory / f"{_STATE_FILE}.new"
    new.touch(mode=0o600)
    new.write_bytes(msgspec.json.encode(stack, enc_hook=str))
    new.replace(new.with_suffix(""))


def load_or_create_secrets(file: Path, create: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Return the secrets in `file`; create them at the first call, readable by their owner only."""
    if not file.exists():
        file.touch(mode=0o600, exist_ok=False)
        file.write_bytes(msgspec.json.encode(create()))
    return msgspec.json.decode(file.read_bytes(), type=dict[str, str])


@contextmanager
def exclusive_lock(directory: Path) -> Iterator[None]:
    """Create the directory if it is missing, and let one command at a time change its stack."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
