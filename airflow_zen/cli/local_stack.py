"""The local stack: Airflow and MLflow as background processes, all their state under one directory."""

from __future__ import annotations

import argparse
import fcntl
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from airflow_zen.cli.local_parts import AIRFLOW_PARTS, MIGRATE, MLFLOW, Layout, Part, environment, free_port
from airflow_zen.cli.processes import Process, start, stop
from airflow_zen.errors import ZenError

Say = Callable[[str], None]
PARTS = (MLFLOW, *AIRFLOW_PARTS)
# Preferred, so that addresses stay the same from one `up` to the next on most machines.
AIRFLOW_PORT, MLFLOW_PORT = 8080, 5000


class StackError(ZenError, RuntimeError):
    """The local stack could not be started, or stopped, as asked."""


@dataclass(frozen=True)
class LocalStack:
    """A stack as it was started; `processes` by the name of their part."""

    layout: Layout
    settings: Mapping[str, str]
    processes: Mapping[str, Process]

    def state(self) -> dict[str, str]:
        """Tell of each part whether it is `up` or `down`."""
        running = {name for name, process in self.processes.items() if process.running()}
        return {part.name: "up" if part.name in running else "down" for part in PARTS}


def up(
    directory: Path,
    dags: Path,
    settings: Mapping[str, str] | None = None,
    say: Say = print,
    timeout: float = 300,
) -> LocalStack:
    """Start what does not run yet, wait until everything is ready, and give the stack.

    directory: holds all state; made where it is missing. dags: the DAGs folder.
    settings: environment variables for every part, such as `AIRFLOW__ZEN__ARTIFACT_ROOT`.
    timeout: seconds until everything must be ready.
    Raises `StackError` with the end of the log of the part that failed; what this call started is stopped again.
    """
    directory, dags, settings = directory.resolve(), dags.resolve(), dict(settings or {})
    if not dags.is_dir():
        raise StackError(f"The DAGs folder {str(dags)!r} is not a directory.")
    with _only_one(directory):
        stack = _fit(_read(directory), directory, dags, settings)
        return _Start(stack, say, time.monotonic() + timeout).run()


def down(directory: Path, say: Say = print) -> None:
    """Stop exactly what `up` started; state and logs stay.

    Raises `StackError` naming the processes that cannot be stopped.
    """
    directory = directory.resolve()
    if not _state_file(directory).exists():
        say(f"Nothing was started in {directory}.")
        return
    with _only_one(directory):
        stack = _read(directory)
        if stack is None:
            return
        _stop(stack)
        _write(replace(stack, processes={}))
    say("Stopped.")


def status(directory: Path) -> LocalStack | None:
    """Give the stack of this directory; None where none was ever started."""
    return _read(directory.resolve())


@dataclass
class _Start:
    """One `up`: what runs stays, what is missing is started, and on failure what was started is stopped."""

    stack: LocalStack
    say: Say
    deadline: float

    def run(self) -> LocalStack:
        """Start the missing parts and wait for all."""
        self.begun = time.monotonic()
        before = {name: process for name, process in self.stack.processes.items() if process.running()}
        self.stack = replace(self.stack, processes=before)
        try:
            self._start_missing()
            self._wait_until_ready()
        except BaseException:
            _stop(self.stack, keep=before)
            _write(replace(self.stack, processes=before))
            raise
        return self.stack

    def _start_missing(self) -> None:
        layout = self.stack.layout
        variables = environment(layout, self.stack.settings)
        migration = self._start_migration(variables)
        # MLflow needs no metadata database, so it starts beside the migration.
        self._start(MLFLOW, variables)
        if migration:
            self._await_migration(migration)
        for part in AIRFLOW_PARTS:
            self._start(part, variables)

    def _start(self, part: Part, variables: Mapping[str, str]) -> None:
        if part.name in self.stack.processes:
            return
        layout = self.stack.layout
        process = start(part.name, part.command(layout), variables, layout.log(part.name))
        # Written at once: whatever happens to this command, `down` finds every process.
        self.stack = replace(self.stack, processes={**self.stack.processes, part.name: process})
        _write(self.stack)

    def _start_migration(self, variables: Mapping[str, str]) -> subprocess.Popen[bytes] | None:
        if self._migrated.exists() and self._migrated.read_text() == version("apache-airflow-core"):
            return None
        self._migrated.parent.mkdir(parents=True, exist_ok=True)
        log = self.stack.layout.log("db-migrate")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            return subprocess.Popen(
                MIGRATE, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=dict(variables)
            )

    def _await_migration(self, migration: subprocess.Popen[bytes]) -> None:
        try:
            code = migration.wait(self.deadline - time.monotonic())
        except BaseException:
            migration.kill()
            migration.wait()
            raise
        if code:
            raise self._failure("db-migrate", f"ended with {code}")
        self._migrated.write_text(version("apache-airflow-core"))
        self._ready("metadata database")

    def _wait_until_ready(self) -> None:
        waiting = list(PARTS)
        while waiting:
            for part in list(waiting):
                process = self.stack.processes[part.name]
                if not process.running():
                    raise self._failure(part.name, "ended")
                if part.ready(self.stack.layout, process):
                    waiting.remove(part)
                    self._ready(part.name)
            if waiting and time.monotonic() > self.deadline:
                raise self._failure(waiting[0].name, "was not ready in time")
            time.sleep(0.1 if waiting else 0)

    @property
    def _migrated(self) -> Path:
        return self.stack.layout.directory / "airflow" / "migrated"

    def _ready(self, name: str) -> None:
        self.say(f"  {name:<18} ready after {time.monotonic() - self.begun:4.1f} s")

    def _failure(self, name: str, what: str) -> StackError:
        log = self.stack.layout.log(name)
        return StackError(f"{name} {what}. The end of {log}:\n{tail(log)}")


def tail(file: Path, lines: int = 30) -> str:
    """Give the last lines of a log."""
    return "\n".join(file.read_text(errors="replace").splitlines()[-lines:]) if file.exists() else ""


def _stop(stack: LocalStack, keep: Mapping[str, Process] | None = None) -> None:
    kept = keep or {}
    going = [process for name, process in stack.processes.items() if name not in kept]
    # The mark is on every part of the stack; where some are kept, only the processes themselves and theirs go.
    left = stop(going, stack.layout.mark if not kept else "")
    if left:
        raise StackError(f"Still running: {', '.join(str(process) for process in left)}.")


def _fit(stack: LocalStack | None, directory: Path, dags: Path, settings: Mapping[str, str]) -> LocalStack:
    """Take the stack up again as it was, or plan a new one; refuse to change one that runs."""
    if stack and "up" in stack.state().values():
        if (stack.layout.dags, dict(stack.settings)) != (dags, settings):
            raise StackError(
                f"The stack in {directory} is up with the DAGs folder {str(stack.layout.dags)!r} and the settings "
                f"{dict(stack.settings)!r}. Stop it before starting it with others."
            )
        return stack
    airflow_port = free_port(stack.layout.airflow_port if stack else AIRFLOW_PORT)
    mlflow_port = free_port(stack.layout.mlflow_port if stack else MLFLOW_PORT)
    mark = stack.layout.mark if stack else secrets.token_hex(16)
    return LocalStack(Layout(directory, dags, airflow_port, mlflow_port, mark), settings, {})


def _state_file(directory: Path) -> Path:
    return directory / "stack.json"


def _read(directory: Path) -> LocalStack | None:
    try:
        kept = json.loads(_state_file(directory).read_text())
    except FileNotFoundError:
        return None
    layout = kept["layout"] | {name: Path(kept["layout"][name]) for name in ("directory", "dags")}
    processes = {name: Process(**process) for name, process in kept["processes"].items()}
    return LocalStack(Layout(**layout), kept["settings"], processes)


def _write(stack: LocalStack) -> None:
    file = _state_file(stack.layout.directory)
    new = file.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(json.dumps(asdict(stack), indent=2, default=str))
    new.replace(file)


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Let one `up` or `down` at a time work on the directory."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `up`, `down` or `status` from the command line; gives the exit code."""
    options = _options(arguments)
    try:
        return _COMMANDS[options.command](options)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1


def _up(options: argparse.Namespace) -> int:
    settings = dict(setting.split("=", 1) for setting in options.set)
    print(f"Starting Airflow and MLflow in {options.directory}:")
    stack = up(options.directory, options.dags, settings, timeout=options.timeout)
    _show(stack)
    return 0


def _down(options: argparse.Namespace) -> int:
    down(options.directory)
    return 0


def _status(options: argparse.Namespace) -> int:
    stack = status(options.directory)
    if stack is None:
        print(f"Nothing was started in {options.directory}.")
        return 3
    for name, state in stack.state().items():
        print(f"  {name:<14} {state}")
    _show(stack)
    return 0 if set(stack.state().values()) == {"up"} else 3


def _show(stack: LocalStack) -> None:
    print(f"  Airflow        {stack.layout.airflow_url}")
    print(f"  MLflow         {stack.layout.mlflow_url}/#/experiments?workflowType=machine_learning")
    print(f"  DAGs           {stack.layout.dags}")
    print(f"  Logs           {stack.layout.log('*')}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m airflow_zen.cli.local_stack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, told in (("up", "start what does not run yet"), ("down", "stop it"), ("status", "say what runs")):
        command = commands.add_parser(name, help=told)
        command.add_argument("--directory", type=Path, default=Path(".zen/stack"), help="holds all state")
    start_options = commands.choices["up"]
    start_options.add_argument("--dags", type=Path, required=True, help="the DAGs folder")
    start_options.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="environment variable")
    start_options.add_argument("--timeout", type=float, default=300, help="seconds until everything must be ready")
    return parser.parse_args(arguments)


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {"up": _up, "down": _down, "status": _status}


if __name__ == "__main__":
    sys.exit(main())
