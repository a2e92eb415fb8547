"""`airflow zen stack list`, `show`, `use` and `check`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.cli.output import print_rows, show_progress
from airflow_zen.config.options import (
    CONFIG_SECTION,
    Options,
    active_stack_name,
    allowed_stack_options,
    default_artifact_root,
    find_options,
    load_stacks_file,
    stack_names,
)
from airflow_zen.config.settings import Settings
from airflow_zen.config.stacks_file import DEFAULT_STACK, set_active_stack
from airflow_zen.doctor.findings import Finding, print_findings
from airflow_zen.doctor.mlflow import mlflow_findings
from airflow_zen.doctor.store import store_findings
from airflow_zen.get_provider_info import get_provider_info
from airflow_zen.progress import Progress


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


_SECRET = re.compile(r"(token|key|secret|password|sig|signature)=[^&]*", re.IGNORECASE)
_SOURCE_NAMES = {
    "env var": "environment",
    "airflow.cfg": "airflow.cfg",
    "default": "default",
    "provider-metadata-fallback-defaults": "default",
    "cmd": "command",
    "secret": "secrets backend",
}


@dataclass(frozen=True)
class EffectiveOption:
    """One option: its value as it may be shown, and who said so."""

    option: str
    value: str
    source: str


def effective_options(options: Options) -> Iterator[EffectiveOption]:
    """Give every option of `[zen]` as a stack has it."""
    configured: dict[str, Any] = dict(
        conf.as_dict(display_source=True, display_sensitive=True, raw=False).get(CONFIG_SECTION, {})
    )
    for option in get_provider_info()["config"][CONFIG_SECTION]["options"]:
        if options.is_stack_specific(option):
            yield EffectiveOption(
                option,
                mask_secrets(options.text(option)),
                str(load_stacks_file().path) if option in options.overrides else "",
            )
            continue
        value, source = configured.get(option, ("", "default"))
        yield _with_default(
            option, EffectiveOption(option, mask_secrets(str(value or "")), _SOURCE_NAMES.get(source, source)), options
        )


def mask_secrets(text: str) -> str:
    """Leave out what an address proves who one is with."""
    parts = urlsplit(text) if "://" in text else None
    if parts is not None and "@" in parts.netloc:
        text = parts._replace(netloc=f"***@{parts.netloc.rpartition('@')[2]}").geturl()
    return _SECRET.sub(lambda match: f"{match[1]}=***", text)


def _with_default(option: str, found: EffectiveOption, options: Options) -> EffectiveOption:
    """Say what an option that nobody sets means."""
    if found.value or options.stack != DEFAULT_STACK:
        return found
    if option == "artifact_root":
        return EffectiveOption(option, default_artifact_root(), "default")
    if option == "mlflow_tracking_uri" and os.environ.get("MLFLOW_TRACKING_URI"):
        return EffectiveOption(option, mask_secrets(os.environ["MLFLOW_TRACKING_URI"]), "MLFLOW_TRACKING_URI")
    return found
