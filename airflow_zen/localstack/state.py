"""What is known of a local stack from one command to the next: `stack.json` in its directory."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from airflow_zen.errors import ZenError
from airflow_zen.localstack.processes import Process


class StackError(ZenError, RuntimeError):
    """The local stack could not be started, or stopped, as asked."""


@dataclass(frozen=True)
class Layout:
    """Where a stack keeps its state, and where its servers listen.

    mark: inherited by all its processes, so that none is ever overlooked. s3_server: the program that serves S3, empty
    where the artifact root is a directory; s3_ports: its ports, the first of them the one it is asked at.
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
        """Address of Airflow's UI and API."""
        return f"http://127.0.0.1:{self.airflow_port}"

    @property
    def mlflow_url(self) -> str:
        """Address of the MLflow server."""
        return f"http://127.0.0.1:{self.mlflow_port}"

    @property
    def s3_url(self) -> str:
        """Address of the S3 server; empty where there is none."""
        return f"http://127.0.0.1:{self.s3_ports[0]}" if self.s3_ports else ""

    def log(self, name: str) -> Path:
        """Name the file that takes a part's output."""
        return self.directory / "logs" / f"{name}.log"


@dataclass(frozen=True)
class LocalStack:
    """A stack as it was started.

    settings: environment variables given to every part. processes: by the name of their part.
    """

    layout: Layout
    settings: Mapping[str, str]
    processes: Mapping[str, Process]

    def running_processes(self) -> dict[str, Process]:
        """Give the processes that still run, by the name of their part."""
        return {name: process for name, process in self.processes.items() if process.is_running()}

    def crashed_services(self) -> list[str]:
        """Name the parts that ended though nobody stopped them."""
        return [name for name, process in self.processes.items() if not process.is_running()]


def read_state(directory: Path) -> LocalStack | None:
    """Give the stack of this directory; None where none was ever started."""
    try:
        document = json.loads(_state_file(directory).read_text())
    except FileNotFoundError:
        return None
    read: dict[str, Any] = {name: Path(document["layout"][name]) for name in ("directory", "dags")}
    read |= {"s3_ports": tuple(document["layout"].get("s3_ports", ()))}
    processes = {name: Process(**process) for name, process in document["processes"].items()}
    return LocalStack(Layout(**document["layout"] | read), document["settings"], processes)


def write_state(stack: LocalStack) -> None:
    """Keep the stack's state, readable by its owner only: settings may hold credentials."""
    file = _state_file(stack.layout.directory)
    new = file.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(json.dumps(asdict(stack), indent=2, default=str))
    new.replace(file)


@contextmanager
def exclusive_lock(directory: Path) -> Iterator[None]:
    """Make the directory where it is missing, and let one command at a time change its stack."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _state_file(directory: Path) -> Path:
    return directory / "stack.json"
