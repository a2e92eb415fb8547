"""`airflow zen doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.cli.output import show_progress
from airflow_zen.cli.stacks import effective_options
from airflow_zen.config.options import find_options
from airflow_zen.config.settings import Settings
from airflow_zen.doctor.airflow import airflow_findings, installation_findings
from airflow_zen.doctor.findings import Finding, failed, ok, print_findings, warning
from airflow_zen.doctor.mlflow import mlflow_findings
from airflow_zen.doctor.store import store_findings
from airflow_zen.errors import ZenError
from airflow_zen.progress import Progress


@suppress_logs_and_warning
def doctor(args: Any) -> None:
    """Look at everything that a step needs; exit with 1 where something is broken."""
    found: list[Finding] = []
    with show_progress("Looking", args.output) as on_progress:
        for finding in _all_findings(args.stack):
            found.append(finding)
            on_progress(Progress("Looking", len(found), note=finding.check))
    print_findings(found, args.output)


def _all_findings(stack: str | None) -> Iterator[Finding]:
    yield from installation_findings()
    yield from airflow_findings()
    try:
        settings = Settings.read(stack)
    except ZenError as error:
        yield failed("settings", "cannot be read", str(error))
        return
    yield from _setting_findings(settings)
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _local_cache_findings,
        store_findings,
        mlflow_findings,
    )
    for check in checks:
        yield from check(settings)


def _setting_findings(settings: Settings) -> Iterator[Finding]:
    """Tell every option that somebody set, and who did."""
    yield ok("stack", settings.stack)
    for option in effective_options(find_options(settings.stack)):
        if option.value and option.source != "default":
            yield ok(f"[zen] {option.option}", f"{option.value} ({option.source})")


def _local_cache_findings(settings: Settings) -> Iterator[Finding]:
    if not settings.local_cache_dir or "://" not in settings.artifact_root:
        return
    import shutil
    from pathlib import Path

    path = Path(settings.local_cache_dir).expanduser()
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    used = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.exists() else 0
    detail = (
        f"{free / 1024**3:.1f} GiB free, {used / 1024**3:.1f} of {settings.local_cache_size / 1024**3:.1f} GiB used"
    )
    fits = free > settings.local_cache_size - used
    remedy = f"Make room in {existing}, or lower local_cache_size."
    yield ok("local cache", detail) if fits else warning("local cache", detail, remedy)
