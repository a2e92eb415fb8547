"""`airflow zen stack up`, `down`, `status`, `env` and `logs`: the local stack, or the containers of `docker/`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE

import airflow_zen
from airflow_zen.cli.command import argument, command
from airflow_zen.cli.output import print_rows, show_progress

if TYPE_CHECKING:
    from airflow_zen.localstack.state import LocalStack

_KINDS = ("local", "compose")
_KIND = argument("kind", "The local stack (the default) or the containers", choices=_KINDS, nargs="?", default="local")
_DEFAULT_DIRECTORY = ".zen/stack"
_DIRECTORY = argument("--directory", "The directory of the local stack's state", default=_DEFAULT_DIRECTORY)
_FILE = argument("--file", "The compose file (default: docker/compose.yaml of the repository)")

_COMPOSE_FILE = Path("docker/compose.yaml")
_POLL_SECONDS = 0.3


@command(
    "stack up",
    argument("kind", "Processes of this machine, or containers", choices=_KINDS),
    argument("--s3", "Store artifacts in an S3 server, which is started too", action="store_true"),
    argument(
        "--database",
        "SQLAlchemy URL of Airflow's metadata database, PostgreSQL or MySQL (default: SQLite in the directory)",
        metavar="URL",
    ),
    argument("--dags", "The DAGs folder (default: that of airflow.cfg)"),
    _DIRECTORY,
    argument("--set", "Environment variable of every service", metavar="NAME=VALUE", action="append"),
    argument("--timeout", "Seconds until everything must be ready", type=float, default=300),
    _FILE,
)
def up(args: Any) -> None:
    """Start a stack on this machine.

    Start Airflow and MLflow as background processes, or the containers of docker/. Services that run are left alone.
    """
    # Startup takes minutes; each line appears at once, in a pipe too.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if args.kind == "local":
        _up_local(args)
        return
    _docker_program()
    make_secrets(compose_file(args.file, Path.cwd()))
    _run_compose(args.file, "up", "--build", "--detach")
    _run_compose(args.file, "ps")


@command("stack down", _KIND, _DIRECTORY, _FILE)
def down(args: Any) -> None:
    """Stop exactly what `up` started.

    Databases, artifacts, volumes and logs stay.
    """
    from airflow_zen.localstack.stack import stop_local_stack

    if args.kind == "compose":
        _run_compose(args.file, "down")
    else:
        stop_local_stack(Path(args.directory))


@command("stack status", _KIND, _DIRECTORY, _FILE, ARG_OUTPUT, ARG_VERBOSE)
def status(args: Any) -> None:
    """Show the services of a stack and their state.

    Exit code 1 unless every service is up.
    """
    if args.kind == "compose":
        output = ("--format", "json") if args.output == "json" else ()
        _run_compose(args.file, "ps", *output)
        return
    stack = _read_stack(args.directory)
    rows = _service_rows(stack)
    print_rows(rows, args.output)
    _warn_about_crashes(stack)
    if any(row["state"] != "up" for row in rows):
        raise SystemExit(1)


@command("stack env", _DIRECTORY)
def env(args: Any) -> None:
    """Print the commands by which a shell uses the local stack.

    Run eval "$(airflow zen stack env)": `airflow`, `mlflow` and Python then use this stack's Airflow, MLflow and artifacts.
    """
    from airflow_zen.localstack.services import OPTION_PREFIX, shell_environment

    stack = _read_stack(args.directory)
    wanted = shell_environment(stack.layout, stack.settings)
    if unwanted := sorted(os.environ.keys() - wanted.keys()):
        print(f"unset {' '.join(unwanted)}")
    for name, value in wanted.items():
        # airflow.cfg contains the options.
        if os.environ.get(name) != value and not name.startswith(OPTION_PREFIX):
            print(f"export {name}={shlex.quote(value)}")
    if not stack.running_processes():
        print(f"The stack in {stack.layout.directory} is not up.", file=sys.stderr)


@command(
    "stack logs",
    argument("service", "The service, such as scheduler (default: all)", nargs="?"),
    argument("--follow", "Print new lines as they are written", action="store_true"),
    argument("--lines", "Number of lines of each log", type=int, default=20),
    _DIRECTORY,
    argument("--compose", "The logs of the containers", action="store_true"),
    _FILE,
)
def logs(args: Any) -> None:
    """Show the logs of a stack."""
    if args.compose:
        options = (
            f"--tail={args.lines}",
            *(["--follow"] if args.follow else []),
            *([args.service] if args.service else []),
        )
        _run_compose(args.file, "logs", *options)
        return
    stack = _read_stack(args.directory)
    files = _log_files(Path(args.directory), args.service)
    _warn_about_crashes(stack)
    for name, file in files.items():
        if len(files) > 1:
            print(f"== {name} ==")
        for line in file.read_text(errors="replace").splitlines()[-args.lines :] if args.lines else ():
            print(line)
    with suppress(KeyboardInterrupt):
        for line in _follow_logs(files) if args.follow else ():
            print(line, flush=True)


def _up_local(args: Any) -> None:
    from airflow.configuration import conf

    from airflow_zen.localstack.stack import start_local_stack

    settings, directory = dict(map(_parse_setting, args.set or ())), Path(args.directory)
    print(f"Starting {'Airflow, MLflow and an S3 server' if args.s3 else 'Airflow and MLflow'} in {directory}:")
    options = {"timeout": args.timeout, "s3": args.s3, "database": args.database or ""}
    dags = Path(args.dags or conf.get("core", "dags_folder"))
    try:
        with show_progress("Starting") as on_progress:
            stack = start_local_stack(directory, dags, settings, on_progress=on_progress, **options)
    except KeyboardInterrupt:
        raise SystemExit("Interrupted; the services that this command started are stopped.") from None
    _print_addresses(stack)
    _print_first_commands(stack, args.directory)


def compose_file(given_path: str | None, start: Path) -> Path:
    """Return the compose file: `given_path`, or that of the checkout around `start`, or that of this package's checkout.

    Raise `SystemExit` if there is none.
    """
    if given_path:
        if not Path(given_path).is_file():
            raise SystemExit(f"The compose file {given_path!r} does not exist.")
        return Path(given_path).resolve()
    package = Path(airflow_zen.__file__).resolve().parent
    for folder in (*start.resolve().joinpath("x").parents, package.parent):
        if (folder / _COMPOSE_FILE).is_file() and (folder / "docker" / "secrets.sh").is_file():
            return folder / _COMPOSE_FILE
    raise SystemExit(
        f"No {_COMPOSE_FILE} of airflow_zen is in {str(start)!r} or its parents. Run this in a checkout of the repository, "
        "or name the file with --file."
    )


def make_secrets(file: Path) -> None:
    """Create the missing secrets beside the compose file; existing ones stay."""
    if (script := file.parent / "secrets.sh").is_file():
        subprocess.run(["bash", str(script)], check=True)


def _run_compose(given_path: str | None, *arguments: str) -> None:
    command = ["compose", "--file", str(compose_file(given_path, Path.cwd())), *arguments]
    if code := subprocess.run([_docker_program(), *command], check=False).returncode:
        raise SystemExit(f"docker {' '.join(command)} ended with {code}.")


def _docker_program() -> str:
    """Return the path of Docker's program; raise `SystemExit` if it or its compose plugin is missing."""
    found = shutil.which("docker")
    if found and not subprocess.run([found, "compose", "version"], capture_output=True, check=False).returncode:
        return found
    missing = "no compose plugin of the `docker` program" if found else "no `docker` program on the PATH"
    raise SystemExit(
        f"There is {missing}, so containers cannot be started. Install Docker Engine with its compose plugin, or start the "
        "stack without containers: airflow zen stack up local."
    )


def _read_stack(directory: str) -> LocalStack:
    from airflow_zen.localstack.state import read_local_stack

    if stack := read_local_stack(Path(directory)):
        return stack
    raise SystemExit(f"Nothing was ever started in {directory}.")


def _service_rows(stack: LocalStack) -> list[dict[str, Any]]:
    from airflow_zen.localstack.services import services_of

    running, crashed, layout = stack.running_processes(), stack.crashed_services(), stack.layout
    urls = {"api-server": layout.airflow_url, "mlflow": layout.mlflow_url, "s3": layout.s3_url}
    return [
        {
            "service": service.name,
            "state": "up"
            if (process := running.get(service.name))
            else "crashed"
            if service.name in crashed
            else "down",
            "pid": process.pid if process else "",
            "address": urls.get(service.name, "") if process else "",
            "log": str(layout.log(service.name)),
        }
        for service in services_of(layout)
    ]


def _warn_about_crashes(stack: LocalStack) -> None:
    """Print on stderr the services that ended without `down`, and how to start them again."""
    if crashed := stack.crashed_services():
        print(
            f"{', '.join(crashed)} crashed. `airflow zen stack up local`, with the options of the first start, starts "
            f"them again and leaves the others alone; see {stack.layout.log('<service>')} for the reason.",
            file=sys.stderr,
        )


def _print_addresses(stack: LocalStack) -> None:
    from airflow_zen.localstack.metadata_database import DATABASE_VARIABLE
    from airflow_zen.localstack.state import AIRFLOW_USER
    from airflow_zen.runs.redaction import DEFAULT_REDACTOR

    layout = stack.layout
    print(f"  Airflow        {layout.airflow_url} (user {AIRFLOW_USER}, password {layout.airflow_password})")
    print(f"  MLflow         {layout.mlflow_url}/#/experiments?workflowType=machine_learning (the same user)")
    if layout.s3_server:
        print(f"  S3             {layout.s3_url} ({layout.s3_server})")
    if DATABASE_VARIABLE in stack.settings:
        print(f"  database       {DEFAULT_REDACTOR.text(stack.settings[DATABASE_VARIABLE])}")
    print(f"  DAGs folder    {layout.dags}")
    print(f"  logs           {layout.log('*')}")


def _print_first_commands(stack: LocalStack, directory: str) -> None:
    """Print three commands for a shell: use the stack, run a DAG of its folder, show the run."""
    from airflow_zen.localstack.stack import first_dag

    dag = first_dag(stack.layout) or "DAG"
    program = Path(sys.executable).parent / "airflow"
    name = "airflow" if shutil.which("airflow") == str(program) else _short_path(program)
    option = "" if directory == _DEFAULT_DIRECTORY else f" --directory {shlex.quote(directory)}"
    print(
        "\nRun a DAG from a shell:"
        if dag != "DAG"
        else f"\nPut a DAG into {stack.layout.dags}, and run it from a shell:"
    )
    print(f'  eval "$({name} zen stack env{option})"')
    print(f"  airflow dags trigger {dag}")
    print(f"  airflow zen runs show {dag}")


def _short_path(path: Path) -> str:
    """Return a path for a shell, relative where it is below the working directory."""
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def _parse_setting(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise SystemExit(f"--set takes NAME=VALUE, got {text!r}.")
    return name, value


def _log_files(directory: Path, service: str | None) -> dict[str, Path]:
    """Return the log of a service, or of all; raise `SystemExit` naming the services that have one."""
    found = {file.stem: file for file in sorted((directory / "logs").glob("*.log"))}
    if service is not None and service not in found:
        raise SystemExit(f"There is no log of {service!r}; there are {', '.join(found)}.")
    return found if service is None else {service: found[service]}


def _follow_logs(files: dict[str, Path]) -> Iterator[str]:
    """Yield new lines forever, each with its service's name if there are several."""
    offsets = {name: file.stat().st_size for name, file in files.items()}
    while True:
        for name, file in files.items():
            with file.open("rb") as log:
                log.seek(offsets[name])
                *lines, incomplete_line = log.read().split(b"\n")
                offsets[name] = log.tell() - len(incomplete_line)
            for line in lines:
                yield f"{f'{name}: ' if len(files) > 1 else ''}{line.decode(errors='replace')}"
        time.sleep(_POLL_SECONDS)
