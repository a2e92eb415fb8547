"""`airflow zen stack list`, `show`, `use` and `check`."""

from __future__ import annotations

from itertools import chain
from typing import Any

from airflow.configuration import conf
from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.cli.findings import Finding, print_findings
from airflow_zen.cli.mlflow_check import mlflow_findings
from airflow_zen.cli.option_sources import effective_options, mask_secrets
from airflow_zen.cli.progress import show_progress
from airflow_zen.cli.store_check import store_findings
from airflow_zen.cli.table import print_rows
from airflow_zen.options import active_stack_name, allowed_stack_options, find_options, load_stacks_file, stack_names
from airflow_zen.progress import Progress
from airflow_zen.settings import Settings
from airflow_zen.stacks_file import DEFAULT_STACK, set_active_stack


@suppress_logs_and_warning
def list_stacks(args: Any) -> None:
    """Print every stack, and which is active."""
    file = load_stacks_file()
    active = active_stack_name(file)
    print_rows([_stack_row(name, active, str(file.path)) for name in stack_names(file)], args.output)


def _stack_row(name: str, active: str, path: str) -> dict[str, Any]:
    options = find_options(name)
    mlflow = options.text("mlflow_conn_id") or mask_secrets(options.text("mlflow_tracking_uri"))
    if name == DEFAULT_STACK:
        settings = Settings.read(name)
        return _stack_fields(
            name, active, settings.artifact_root, mlflow or mask_secrets(settings.mlflow_tracking_uri), "[zen]"
        )
    return _stack_fields(name, active, mask_secrets(options.text("artifact_root")), mlflow, path)


def _stack_fields(name: str, active: str, root: str, mlflow: str, source: str) -> dict[str, Any]:
    return {
        "stack": name,
        "active": "active" if name == active else "",
        "artifact root": root,
        "mlflow": mlflow,
        "defined in": source,
    }


@suppress_logs_and_warning
def show_stack(args: Any) -> None:
    """Print every option of a stack, and where it comes from."""
    options = find_options(args.stack)
    print_rows(
        [{"option": s.option, "value": s.value, "from": s.source} for s in effective_options(options)], args.output
    )


def use(args: Any) -> None:
    """Make a stack the active one."""
    file = load_stacks_file()
    find_options(args.stack)
    if overriding := conf.get("zen", "stack", fallback=""):
        raise SystemExit(
            f"[zen] stack (or AIRFLOW__ZEN__STACK) names {overriding!r} and goes before {str(file.path)!r}. Change it there."
        )
    set_active_stack(file, args.stack, allowed_stack_options())
    print(f"The active stack is {args.stack!r} now, in {file.path}.")


@suppress_logs_and_warning
def check(args: Any) -> None:
    """Look whether a stack's store and MLflow can be used; exit with 1 where not."""
    settings = Settings.read(args.stack)
    found: list[Finding] = []
    stage = f"Checking stack {settings.stack!r}"
    with show_progress(stage, args.output) as on_progress:
        for finding in chain(store_findings(settings), mlflow_findings(settings)):
            found.append(finding)
            on_progress(Progress(stage, len(found), note=finding.check))
    print_findings(found, args.output)
