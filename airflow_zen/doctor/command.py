"""`airflow zen doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_zen.cli.command import STACK_AND_OUTPUT, command

if TYPE_CHECKING:
    from airflow_zen.config.settings import Settings
    from airflow_zen.doctor.findings import Finding


@command("doctor", *STACK_AND_OUTPUT)
def doctor(args: Any) -> None:
    """Check versions, settings, Airflow, the store and MLflow, and report how to fix problems.

    Exit code 1 if a check fails.
    """
    from airflow_zen.doctor.findings import report_findings

    report_findings(_all_findings(args.stack), "Checking", args.output)


def _all_findings(stack: str | None) -> Iterator[Finding]:
    from airflow_zen.config.settings import Settings
    from airflow_zen.doctor.airflow import airflow_findings, installation_findings
    from airflow_zen.doctor.findings import failed
    from airflow_zen.doctor.mlflow import mlflow_findings
    from airflow_zen.doctor.store import store_findings
    from airflow_zen.errors import ZenError

    yield from installation_findings()
    yield from airflow_findings()
    try:
        settings = Settings.read(stack)
    except ZenError as error:
        yield failed("settings", "cannot be read", str(error))
        return
    for check in (_setting_findings, _local_cache_findings, store_findings, mlflow_findings):
        yield from check(settings)


def _setting_findings(settings: Settings) -> Iterator[Finding]:
    """Yield every option that is set, and its source."""
    from airflow_zen.cli.stacks import effective_options
    from airflow_zen.config.options import find_options
    from airflow_zen.doctor.findings import ok

    yield ok("stack", settings.stack)
    for option in effective_options(find_options(settings.stack)):
        if option.value and option.source != "default":
            yield ok(f"[zen] {option.option}", f"{option.value} ({option.source})")


def _local_cache_findings(settings: Settings) -> Iterator[Finding]:
    import shutil
    from pathlib import Path

    from airflow_zen.doctor.findings import ok, warning

    if not settings.local_cache_dir or "://" not in settings.artifact_root:
        return
    path = Path(settings.local_cache_dir).expanduser()
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    used = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.exists() else 0
    size = settings.local_cache_size
    detail = f"{free / 1024**3:.1f} GiB free, {used / 1024**3:.1f} of {size / 1024**3:.1f} GiB used"
    remedy = f"Free disk space in {existing}, or lower local_cache_size."
    yield ok("local cache", detail) if free > size - used else warning("local cache", detail, remedy)
