"""The local stack: Airflow and MLflow as background processes, all their state under one directory."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from airflow_zen.cli.output import show_progress
from airflow_zen.errors import ZenError
from airflow_zen.localstack.metadata_database import DATABASE_VARIABLE, redact_url, verify_database
from airflow_zen.localstack.ports import PortReservation
from airflow_zen.localstack.processes import stop_processes
from airflow_zen.localstack.s3 import find_installed_server, port_count
from airflow_zen.localstack.services import services_of
from airflow_zen.localstack.start import Echo, StackStarter
from airflow_zen.localstack.state import Layout, LocalStack, StackError, exclusive_lock, read_state, write_state
from airflow_zen.progress import ProgressCallback, ignore_progress

# Wanted, and taken where free: addresses then stay the same from one machine to the next.
AIRFLOW_PORT, MLFLOW_PORT, S3_PORT = 8080, 5000, 8333


def start_local_stack(
    directory: Path,
    dags: Path,
    settings: Mapping[str, str] | None = None,
    echo: Echo = print,
    timeout: float = 300,
    s3: bool = False,
    database: str = "",
    on_progress: ProgressCallback = ignore_progress,
) -> LocalStack:
    """Start what does not run yet, wait until everything is ready, and give the stack.

    directory: holds all state; made where it is missing. dags: the DAGs folder.
    settings: environment variables for every part, such as `AIRFLOW__ZEN__ARTIFACT_ROOT`.
    timeout: seconds until everything must be ready. s3: keep artifacts in an S3 server, which is started too.
    database: SQLAlchemy URL of Airflow's metadata database; SQLite in `directory` where it is empty.
    tell: hears how many parts are ready.
    Raises `StackError` with the end of the log of the part that failed; what this call started is stopped again.
    """
    directory, dags = directory.resolve(), dags.resolve()
    if not dags.is_dir():
        raise StackError(f"The DAGs folder {str(dags)!r} is not a directory.")
    variables = {**(settings or {}), **({DATABASE_VARIABLE: verify_database(database)} if database else {})}
    with exclusive_lock(directory), PortReservation() as ports:
        starter = StackStarter(
            _resume_or_plan(directory, dags, variables, ports, find_installed_server() if s3 else ""),
            echo,
            timeout,
            on_progress,
        )
        before = starter.stack
        # Children of a part that crashed would work on the same databases as its successor.
        _stop(before, keep=before)
        try:
            starter.run()
        except BaseException:
            _stop(starter.stack, keep=before)
            raise
        return starter.stack


def stop_local_stack(directory: Path, echo: Echo = print) -> None:
    """Stop exactly what `up` started; databases, artifacts and logs stay.

    Raises `StackError` naming the processes that cannot be stopped.
    """
    directory = directory.resolve()
    if read_state(directory) is None:
        echo(f"Nothing was ever started in {directory}.")
        return
    with exclusive_lock(directory):
        stack = read_state(directory)
        if stack:
            _stop(stack)
            echo(f"Stopped {', '.join(stack.processes)}." if stack.processes else "Nothing was up.")


def read_local_stack(directory: Path) -> LocalStack | None:
    """Give the stack of this directory; None where none was ever started."""
    return read_state(directory.resolve())


def _resume_or_plan(
    directory: Path, dags: Path, settings: Mapping[str, str], ports: PortReservation, s3: str
) -> LocalStack:
    """Take up again what runs, or plan anew on the same ports; refuse to change what runs."""
    stack = read_state(directory)
    if stack is None:
        layout = Layout(directory, dags, ports.reserve(AIRFLOW_PORT), ports.reserve(MLFLOW_PORT), secrets.token_hex(16))
        return LocalStack(_with_s3(layout, s3, ports), settings, {})
    if not stack.running_processes():
        airflow_port, mlflow_port = ports.reserve(stack.layout.airflow_port), ports.reserve(stack.layout.mlflow_port)
        layout = replace(stack.layout, dags=dags, airflow_port=airflow_port, mlflow_port=mlflow_port)
        return LocalStack(_with_s3(layout, s3, ports), settings, {})
    if (stack.layout.dags, stack.settings, bool(stack.layout.s3_server)) != (dags, settings, bool(s3)):
        raise StackError(
            f"The stack in {directory} is up with the DAGs folder {str(stack.layout.dags)!r}, "
            f"{'an' if stack.layout.s3_server else 'no'} S3 server and the settings {sorted(stack.settings)!r}; stop it "
            "before you start it with others."
        )
    return stack


def _with_s3(layout: Layout, server: str, ports: PortReservation) -> Layout:
    """Give the server its ports, those it had before where it is the same: SeaweedFS remembers itself by them."""
    if not server:
        return replace(layout, s3_server="", s3_ports=())
    wanted = layout.s3_ports if layout.s3_server == server else (S3_PORT, *[0] * (port_count(server) - 1))
    return replace(layout, s3_server=server, s3_ports=tuple(ports.reserve(port) for port in wanted))


def _stop(stack: LocalStack, keep: LocalStack | None = None) -> None:
    kept = keep.processes if keep else {}
    to_stop = [process for name, process in stack.processes.items() if name not in kept]
    if left := stop_processes(to_stop, stack.layout.mark, kept.values()):
        raise StackError(f"These processes cannot be stopped: {', '.join(str(process) for process in left)}.")
    write_state(replace(stack, processes=kept))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `up`, `down` or `status` from the command line; gives the exit code."""
    options = _parse_arguments(arguments)
    try:
        return int(options.run(options))
    except ZenError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; what was being started has been stopped.", file=sys.stderr)
        return 130


def _up(options: argparse.Namespace) -> int:
    settings = dict(setting.split("=", 1) for setting in options.set)
    print(f"Starting Airflow and MLflow in {options.directory}:")
    with show_progress("Starting") as on_progress:
        stack = start_local_stack(
            *(options.directory, options.dags, settings),
            timeout=options.timeout,
            s3=options.s3,
            database=options.database,
            on_progress=on_progress,
        )
    print_addresses(stack)
    return 0


def _down(options: argparse.Namespace) -> int:
    stop_local_stack(options.directory)
    return 0


def _status(options: argparse.Namespace) -> int:
    stack = read_local_stack(options.directory)
    if stack is None:
        print(f"Nothing was ever started in {options.directory}.")
        return 3
    running = stack.running_processes()
    services = services_of(stack.layout)
    for service in services:
        print(f"  {service.name:<14} {f'up, pid {running[service.name].pid}' if service.name in running else 'down'}")
    print_addresses(stack)
    return 0 if len(running) == len(services) else 3


def print_addresses(stack: LocalStack) -> None:
    """Print where everything is."""
    print(f"  Airflow        {stack.layout.airflow_url}")
    print(f"  MLflow         {stack.layout.mlflow_url}/#/experiments?workflowType=machine_learning")
    if stack.layout.s3_server:
        print(f"  S3             {stack.layout.s3_url} ({stack.layout.s3_server})")
    if DATABASE_VARIABLE in stack.settings:
        print(f"  database       {redact_url(stack.settings[DATABASE_VARIABLE])}")
    print(f"  DAGs folder    {stack.layout.dags}")
    print(f"  logs           {stack.layout.log('*')}")


def _parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m airflow_zen.localstack.stack", description=__doc__)
    commands = parser.add_subparsers(required=True)
    descriptions = {
        _up: "start what does not run yet",
        _down: "stop it",
        _status: "say what runs; exit code 3 unless all does",
    }
    for run, description in descriptions.items():
        command = commands.add_parser(run.__name__[1:], help=description, description=description)
        command.set_defaults(run=run)
        command.add_argument("--directory", type=Path, default=Path(".zen/stack"), help="holds all state")
    starting = commands.choices["up"]
    starting.add_argument("--dags", type=Path, required=True, help="the DAGs folder")
    starting.add_argument(
        "--set", type=_setting_argument, action="append", default=[], metavar="NAME=VALUE", help="environment variable"
    )
    starting.add_argument("--s3", action="store_true", help="keep artifacts in an S3 server, which is started too")
    starting.add_argument("--database", default="", metavar="URL", help="Airflow's metadata database; else SQLite")
    starting.add_argument("--timeout", type=float, default=300, help="seconds until everything must be ready")
    return parser.parse_args(arguments)


def _setting_argument(text: str) -> str:
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return text


if __name__ == "__main__":
    sys.exit(main())
