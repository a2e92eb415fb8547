"""`airflow zen stack up`, `down`, `status` and `logs`: the local stack, or the one of containers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from airflow.configuration import conf

from airflow_zen.cli.compose import compose, compose_file, docker, log_arguments, make_secrets
from airflow_zen.cli.local_parts import parts_of
from airflow_zen.cli.local_stack import down as down_local
from airflow_zen.cli.local_stack import show
from airflow_zen.cli.local_stack import status as status_of
from airflow_zen.cli.local_stack import up as up_local
from airflow_zen.cli.progress import progress
from airflow_zen.cli.stack_logs import follow, log_files, tail
from airflow_zen.cli.stack_state import LocalStack, StackError
from airflow_zen.cli.table import show as show_rows


def up(args: Any) -> None:
    """Start what does not run yet, and say where everything is."""
    # Minutes pass here: a line is worth telling when it is written, into a pipe too.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if args.kind == "compose":
        file = compose_file(args.file, Path.cwd())
        docker()
        make_secrets(file)
        compose(file, "up", "--build", "--detach")
        compose(file, "ps")
        return
    settings = dict(_setting(text) for text in args.set or ())
    directory = Path(args.directory)
    parts = "Airflow, MLflow and an S3 server" if args.s3 else "Airflow and MLflow"
    print(f"Starting {parts} in {directory}:")
    dags = Path(args.dags or conf.get("core", "dags_folder"))
    try:
        with progress("Starting") as tell:
            stack = up_local(
                directory, dags, settings, timeout=args.timeout, s3=args.s3, database=args.database or "", tell=tell
            )
        show(stack)
    except KeyboardInterrupt:
        raise SystemExit("Interrupted; what was being started has been stopped.") from None


def down(args: Any) -> None:
    """Stop what `up` started; what it holds stays."""
    if args.kind == "compose":
        compose(compose_file(args.file, Path.cwd()), "down")
        return
    down_local(Path(args.directory))


def status(args: Any) -> None:
    """Print whether each part runs; exit with 1 unless all do."""
    if args.kind == "compose":
        compose(compose_file(args.file, Path.cwd()), "ps", *(["--format", "json"] if args.output == "json" else []))
        return
    stack = status_of(Path(args.directory))
    if stack is None:
        raise StackError(f"Nothing was ever started in {args.directory}.")
    rows = _parts(stack)
    show_rows(rows, args.output)
    _tell_died(stack)
    if any(row["state"] != "up" for row in rows):
        raise SystemExit(1)


def logs(args: Any) -> None:
    """Print the end of the logs, and with `--follow` what comes."""
    if args.compose:
        compose(compose_file(args.file, Path.cwd()), *log_arguments(args.part, args.lines, following=args.follow))
        return
    files = log_files(Path(args.directory), args.part)
    if stack := status_of(Path(args.directory)):
        _tell_died(stack)
    for line in tail(files, args.lines):
        print(line)
    if args.follow:
        try:
            for line in follow(files):
                print(line, flush=True)
        except KeyboardInterrupt:
            return


def _parts(stack: LocalStack) -> list[dict[str, Any]]:
    running, died = stack.running(), stack.died()
    urls = {"api-server": stack.layout.airflow_url, "mlflow": stack.layout.mlflow_url, "s3": stack.layout.s3_url}
    return [
        {
            "part": part.name,
            "state": "up" if part.name in running else "died" if part.name in died else "down",
            "pid": running[part.name].pid if part.name in running else "",
            "address": urls.get(part.name, "") if part.name in running else "",
            "log": str(stack.layout.log(part.name)),
        }
        for part in parts_of(stack.layout)
    ]


def _tell_died(stack: LocalStack) -> None:
    """Say on stderr which parts ended though nobody stopped them, and what starts them again."""
    if died := stack.died():
        print(
            f"{', '.join(died)} died. `airflow zen stack up local`, with the options it was first started with, starts "
            f"again what died and leaves the rest; {stack.layout.log('<part>')} says why.",
            file=sys.stderr,
        )


def _setting(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise SystemExit(f"--set takes NAME=VALUE, got {text!r}.")
    return name, value
