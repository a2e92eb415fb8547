"""`airflow zen stack list`, `show`, `use` and `check`."""

from __future__ import annotations

from itertools import chain
from typing import Any

from airflow.configuration import conf
from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.cli.findings import Finding, report
from airflow_zen.cli.mlflow_check import mlflow_findings
from airflow_zen.cli.option_sources import masked, sourced
from airflow_zen.cli.progress import progress
from airflow_zen.cli.store_check import store_findings
from airflow_zen.cli.table import show as show_rows
from airflow_zen.options import active_stack, find_options, stack_names, stack_options, stacks_file
from airflow_zen.progress import Progress
from airflow_zen.settings import Settings
from airflow_zen.stacks_file import DEFAULT, use_stack


@suppress_logs_and_warning
def list_stacks(args: Any) -> None:
    """Print every stack, and which is active."""
    file = stacks_file()
    active = active_stack(file)
    show_rows([_row(name, active, str(file.path)) for name in stack_names(file)], args.output)


def _row(name: str, active: str, path: str) -> dict[str, Any]:
    options = find_options(name)
    mlflow = options.text("mlflow_conn_id") or masked(options.text("mlflow_tracking_uri"))
    if name == DEFAULT:
        settings = Settings.read(name)
        return _told(name, active, settings.artifact_root, mlflow or masked(settings.mlflow_tracking_uri), "[zen]")
    return _told(name, active, masked(options.text("artifact_root")), mlflow, path)


def _told(name: str, active: str, root: str, mlflow: str, source: str) -> dict[str, Any]:
    return {
        "stack": name,
        "active": "active" if name == active else "",
        "artifact root": root,
        "mlflow": mlflow,
        "defined in": source,
    }


@suppress_logs_and_warning
def show(args: Any) -> None:
    """Print every option of a stack, and where it comes from."""
    options = find_options(args.stack)
    show_rows([{"option": s.option, "value": s.value, "from": s.source} for s in sourced(options)], args.output)


def use(args: Any) -> None:
    """Make a stack the active one."""
    file = stacks_file()
    find_options(args.stack)
    if overriding := conf.get("zen", "stack", fallback=""):
        raise SystemExit(
            f"[zen] stack (or AIRFLOW__ZEN__STACK) names {overriding!r} and goes before {str(file.path)!r}. Change it there."
        )
    use_stack(file, args.stack, stack_options())
    print(f"The active stack is {args.stack!r} now, in {file.path}.")


@suppress_logs_and_warning
def check(args: Any) -> None:
    """Look whether a stack's store and MLflow can be used; exit with 1 where not."""
    settings = Settings.read(args.stack)
    found: list[Finding] = []
    stage = f"Checking stack {settings.stack!r}"
    with progress(stage, args.output) as tell:
        for finding in chain(store_findings(settings), mlflow_findings(settings)):
            found.append(finding)
            tell(Progress(stage, len(found), note=finding.check))
    report(found, args.output)
