"""`airflow zen stack list`, `show`, `check` and `use`."""

from __future__ import annotations

from typing import Any

from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE

from airflow_zen.cli.command import argument, command
from airflow_zen.cli.output import print_rows

_STACK_NAME = argument("stack", "The stack (default: the active one)", nargs="?", metavar="NAME")


@command("stack list", ARG_OUTPUT, ARG_VERBOSE)
def list_stacks(args: Any) -> None:
    """List the defined stacks."""
    from airflow_zen.config.options import active_stack_name, load_stacks_file, stack_names

    file = load_stacks_file()
    active = active_stack_name(file)
    print_rows([_stack_row(name, active, str(file.path)) for name in stack_names(file)], args.output)


@command("stack show", _STACK_NAME, ARG_OUTPUT, ARG_VERBOSE)
def show_stack(args: Any) -> None:
    """Show a stack's options and their sources."""
    from airflow_zen.config.options import find_options
    from airflow_zen.config.settings import effective_options

    options = effective_options(find_options(args.stack))
    print_rows((dict(zip(("option", "value", "from"), option, strict=True)) for option in options), args.output)


@command("stack check", _STACK_NAME, ARG_OUTPUT, ARG_VERBOSE)
def check(args: Any) -> None:
    """Check a stack, and report problems and their remedies.

    Write, read, list and delete a probe in the store, and send requests to MLflow. Exit code 1 if a check fails.
    """
    from airflow_zen.config.settings import Settings
    from airflow_zen.doctor.findings import report_findings
    from airflow_zen.doctor.mlflow import mlflow_findings
    from airflow_zen.doctor.store import store_findings

    settings = Settings.read(args.stack)
    findings = (finding for check in (store_findings, mlflow_findings) for finding in check(settings))
    report_findings(findings, f"Checking stack {settings.stack!r}", args.output)


@command("stack use", argument("stack", "The stack", metavar="NAME"))
def use(args: Any) -> None:
    """Make a stack the active one.

    Write its name into stacks.yaml. Runs, steps and DAGs that name a stack are not affected.
    """
    from airflow.configuration import conf

    from airflow_zen.config.options import find_options, load_stacks_file, set_active_stack

    file = load_stacks_file()
    find_options(args.stack)
    if overriding := conf.get("zen", "stack", fallback=""):
        raise SystemExit(
            f"[zen] stack (or AIRFLOW__ZEN__STACK) is {overriding!r} and takes precedence over {str(file.path)!r}. "
            f"Change it to {args.stack!r}, or remove it and run this again."
        )
    set_active_stack(file, args.stack)
    print(f"The active stack is {args.stack!r} now, in {file.path}.")


def _stack_row(name: str, active: str, path: str) -> dict[str, Any]:
    from airflow_zen.config.options import DEFAULT_STACK, find_options
    from airflow_zen.config.settings import effective_options

    values = {option: value for option, value, _ in effective_options(find_options(name))}
    return {
        "stack": name,
        "active": "active" if name == active else "",
        "artifact root": values["artifact_root"],
        "mlflow": values["mlflow_conn_id"] or values["mlflow_tracking_uri"],
        "defined in": "[zen]" if name == DEFAULT_STACK else path,
    }
