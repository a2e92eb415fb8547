"""`airflow zen stack up`, `down`, `status` and `logs`: the local stack, or the one of containers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from airflow.configuration import conf

from airflow_zen.cli.output import print_rows, show_progress
from airflow_zen.localstack.compose import compose_file, docker_program, log_arguments, make_secrets, run_compose
from airflow_zen.localstack.logs import follow_logs, log_files, tail_logs
from airflow_zen.localstack.services import services_of
from airflow_zen.localstack.stack import print_addresses, read_local_stack, start_local_stack, stop_local_stack
from airflow_zen.localstack.state import LocalStack, StackError


def up(args: Any) -> None:
    """Start what does not run yet, and say where everything is."""
    # Minutes pass here: a line is worth telling when it is written, into a pipe too.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if args.kind == "compose":
        file = compose_file(args.file, Path.cwd())
        docker_program()
        make_secrets(file)
        run_compose(file, "up", "--build", "--detach")
        run_compose(file, "ps")
        return
    settings = dict(_parse_setting(text) for text in args.set or ())
    directory = Path(args.directory)
    parts = "Airflow, MLflow and an S3 server" if args.s3 else "Airflow and MLflow"
    print(f"Starting {parts} in {directory}:")
    dags = Path(args.dags or conf.get("core", "dags_folder"))
    try:
        with show_progress("Starting") as on_progress:
            stack = start_local_stack(
                directory,
                dags,
                settings,
                timeout=args.timeout,
                s3=args.s3,
                database=args.database or "",
                on_progress=on_progress,
            )
        print_addresses(stack)
    except KeyboardInterrupt:
        raise SystemExit("Interrupted; what was being started has been stopped.") from None


def down(args: Any) -> None:
    """Stop what `up` started; what it holds stays."""
    if args.kind == "compose":
        run_compose(compose_file(args.file, Path.cwd()), "down")
        return
    stop_local_stack(Path(args.directory))


def status(args: Any) -> None:
    """Print whether each part runs; exit with 1 unless all do."""
    if args.kind == "compose":
        run_compose(compose_file(args.file, Path.cwd()), "ps", *(["--format", "json"] if args.output == "json" else []))
        return
    stack = read_local_stack(Path(args.directory))
    if stack is None:
        raise StackError(f"Nothing was ever started in {args.directory}.")
    rows = _service_rows(stack)
    print_rows(rows, args.output)
    _warn_about_crashes(stack)
    if any(row["state"] != "up" for row in rows):
        raise SystemExit(1)


def logs(args: Any) -> None:
    """Print the end of the logs, and with `--follow` what comes."""
    if args.compose:
        run_compose(compose_file(args.file, Path.cwd()), *log_arguments(args.part, args.lines, following=args.follow))
        return
    files = log_files(Path(args.directory), args.part)
    if stack := read_local_stack(Path(args.directory)):
        _warn_about_crashes(stack)
    for line in tail_logs(files, args.lines):
        print(line)
    if args.follow:
        try:
            for line in follow_logs(files):
                print(line, flush=True)
        except KeyboardInterrupt:
            return


def _service_rows(stack: LocalStack) -> list[dict[str, Any]]:
    running, died = stack.running_processes(), stack.crashed_services()
    urls = {"api-server": stack.layout.airflow_url, "mlflow": stack.layout.mlflow_url, "s3": stack.layout.s3_url}
    return [
        {
            "part": service.name,
            "state": "up" if service.name in running else "died" if service.name in died else "down",
            "pid": running[service.name].pid if service.name in running else "",
            "address": urls.get(service.name, "") if service.name in running else "",
            "log": str(stack.layout.log(service.name)),
        }
        for service in services_of(stack.layout)
    ]


def _warn_about_crashes(stack: LocalStack) -> None:
    """Say on stderr which parts ended though nobody stopped them, and what starts them again."""
    if died := stack.crashed_services():
        print(
            f"{', '.join(died)} died. `airflow zen stack up local`, with the options it was first started with, starts "
            f"again what died and leaves the rest; {stack.layout.log('<part>')} says why.",
            file=sys.stderr,
        )


def _parse_setting(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise SystemExit(f"--set takes NAME=VALUE, got {text!r}.")
    return name, value
