"""`airflow zen stack up`, `down`, `status` and `logs`: the local stack, or the containers of `docker/`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
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
_DIRECTORY = argument("--directory", "The directory of the local stack's state", default=".zen/stack")
_FILE = argument("--file", "The compose file (default: docker/compose.yaml of the repository)")

_COMPOSE_FILE = Path("docker/compose.yaml")
_POLL_SECONDS = 0.3
_READ_SIZE = 64 * 1024


@command(
    "up",
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
    file = compose_file(args.file, Path.cwd())
    _docker_program()
    make_secrets(file)
    _run_compose(file, "up", "--build", "--detach")
    _run_compose(file, "ps")


@command("down", _KIND, _DIRECTORY, _FILE)
def down(args: Any) -> None:
    """Stop exactly what `up` started.

    Databases, artifacts, volumes and logs stay.
    """
    from airflow_zen.localstack.stack import stop_local_stack

    if args.kind == "compose":
        _run_compose(compose_file(args.file, Path.cwd()), "down")
    else:
        stop_local_stack(Path(args.directory))


@command("status", _KIND, _DIRECTORY, _FILE, ARG_OUTPUT, ARG_VERBOSE)
def status(args: Any) -> None:
    """Show the services of a stack and their state.

    Exit code 1 unless every service is up.
    """
    if args.kind == "compose":
        output = ("--format", "json") if args.output == "json" else ()
        _run_compose(compose_file(args.file, Path.cwd()), "ps", *output)
        return
    stack = _read_stack(Path(args.directory))
    rows = _service_rows(stack)
    print_rows(rows, args.output)
    _warn_about_crashes(stack)
    if any(row["state"] != "up" for row in rows):
        raise SystemExit(1)


@command(
    "logs",
    argument("part", "The service, such as scheduler (default: all)", nargs="?"),
    argument("--follow", "Print new lines as they are written", action="store_true"),
    argument("--lines", "Number of lines of each log", type=int, default=20),
    _DIRECTORY,
    argument("--compose", "The logs of the containers", action="store_true"),
    _FILE,
)
def logs(args: Any) -> None:
    """Show the logs of a stack."""
    if args.compose:
        options = (f"--tail={args.lines}", *(["--follow"] if args.follow else []), *([args.part] if args.part else []))
        _run_compose(compose_file(args.file, Path.cwd()), "logs", *options)
        return
    stack = _read_stack(Path(args.directory))
    files = _log_files(Path(args.directory), args.part)
    _warn_about_crashes(stack)
    for name, file in files.items():
        if len(files) > 1:
            print(f"== {name} ==")
        for line in file.read_text(errors="replace").splitlines()[-args.lines :] if args.lines else ():
            print(line)
    if args.follow:
        try:
            for line in _follow_logs(files):
                print(line, flush=True)
        except KeyboardInterrupt:
            return


COMMANDS = (up, down, status, logs)


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


def compose_file(given_path: str | None, start: Path) -> Path:
    """Return the compose file: `given_path`, or that of the checkout around `start`, or that of this package's checkout.

    Raises `StackError` if there is none.
    """
    from airflow_zen.localstack.state import StackError

    if given_path:
        if not Path(given_path).is_file():
            raise StackError(f"The compose file {given_path!r} does not exist.")
        return Path(given_path).resolve()
    package = Path(airflow_zen.__file__).resolve().parent
    for folder in (*start.resolve().joinpath("x").parents, package.parent):
        if (folder / _COMPOSE_FILE).is_file() and (folder / "docker" / "secrets.sh").is_file():
            return folder / _COMPOSE_FILE
    raise StackError(
        f"No {_COMPOSE_FILE} of airflow_zen is in {str(start)!r} or its parents. Run this in a checkout of the repository, "
        "or name the file with --file."
    )


def make_secrets(file: Path) -> None:
    """Create the missing secrets beside the compose file; existing ones stay."""
    script = file.parent / "secrets.sh"
    if script.is_file():
        subprocess.run(["bash", str(script)], check=True)


def _run_compose(file: Path, *arguments: str) -> None:
    from airflow_zen.localstack.state import StackError

    command = ["compose", "--file", str(file), *arguments]
    done = subprocess.run([_docker_program(), *command], check=False)
    if done.returncode:
        raise StackError(f"{' '.join(['docker', *command])} ended with {done.returncode}.")


def _docker_program() -> str:
    """Return the path of Docker's program; raise `StackError` if it or its compose plugin is missing."""
    from airflow_zen.localstack.state import StackError

    found = shutil.which("docker")
    if found and not subprocess.run([found, "compose", "version"], capture_output=True, check=False).returncode:
        return found
    missing = "no compose plugin of the `docker` program" if found else "no `docker` program on the PATH"
    raise StackError(
        f"There is {missing}, so containers cannot be started. Install Docker Engine with its compose plugin, or start the "
        "stack without containers: airflow zen stack up local."
    )


def _read_stack(directory: Path) -> LocalStack:
    from airflow_zen.localstack.stack import read_local_stack
    from airflow_zen.localstack.state import StackError

    stack = read_local_stack(directory)
    if stack is None:
        raise StackError(f"Nothing was ever started in {directory}.")
    return stack


def _service_rows(stack: LocalStack) -> list[dict[str, Any]]:
    from airflow_zen.localstack.services import services_of

    running, crashed = stack.running_processes(), stack.crashed_services()
    urls = {"api-server": stack.layout.airflow_url, "mlflow": stack.layout.mlflow_url, "s3": stack.layout.s3_url}
    return [
        {
            "part": service.name,
            "state": "up" if service.name in running else "died" if service.name in crashed else "down",
            "pid": running[service.name].pid if service.name in running else "",
            "address": urls.get(service.name, "") if service.name in running else "",
            "log": str(stack.layout.log(service.name)),
        }
        for service in services_of(stack.layout)
    ]


def _warn_about_crashes(stack: LocalStack) -> None:
    """Print on stderr the services that ended without `down`, and how to start them again."""
    if crashed := stack.crashed_services():
        print(
            f"{', '.join(crashed)} died. `airflow zen stack up local`, with the options of the first start, starts the dead "
            f"services again and leaves the others alone; see {stack.layout.log('<part>')} for the reason.",
            file=sys.stderr,
        )


def _print_addresses(stack: LocalStack) -> None:
    from airflow_zen.localstack.metadata_database import DATABASE_VARIABLE, redact_url

    layout = stack.layout
    print(f"  Airflow        {layout.airflow_url}")
    print(f"  MLflow         {layout.mlflow_url}/#/experiments?workflowType=machine_learning")
    if layout.s3_server:
        print(f"  S3             {layout.s3_url} ({layout.s3_server})")
    if DATABASE_VARIABLE in stack.settings:
        print(f"  database       {redact_url(stack.settings[DATABASE_VARIABLE])}")
    print(f"  DAGs folder    {layout.dags}")
    print(f"  logs           {layout.log('*')}")


def _parse_setting(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise SystemExit(f"--set takes NAME=VALUE, got {text!r}.")
    return name, value


def _log_files(directory: Path, service: str | None) -> dict[str, Path]:
    """Return the log of a service, or of all; raise `StackError` naming the services that have one."""
    from airflow_zen.localstack.state import StackError

    found = {file.stem: file for file in sorted((directory / "logs").glob("*.log"))}
    if service is not None and service not in found:
        raise StackError(f"There is no log of {service!r}; there are {', '.join(found)}.")
    return found if service is None else {service: found[service]}


def _follow_logs(files: dict[str, Path]) -> Iterator[str]:
    """Yield new lines forever, each with its service's name if there are several."""
    offsets = {name: file.stat().st_size for name, file in files.items()}
    partial_lines = dict.fromkeys(files, b"")
    while True:
        any_output = False
        for name, file in files.items():
            with file.open("rb") as log:
                log.seek(offsets[name])
                new = log.read(_READ_SIZE)
            offsets[name] += len(new)
            *lines, partial_lines[name] = (partial_lines[name] + new).split(b"\n")
            for line in lines:
                any_output = True
                text = line.decode(errors="replace")
                yield f"{name}: {text}" if len(files) > 1 else text
        if not any_output:
            time.sleep(_POLL_SECONDS)
