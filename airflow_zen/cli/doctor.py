"""`airflow zen doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.cli.airflow_check import airflow_findings
from airflow_zen.cli.findings import Finding, failed, ok, report, warning
from airflow_zen.cli.installation_check import installation_findings
from airflow_zen.cli.mlflow_check import mlflow_findings
from airflow_zen.cli.option_sources import sourced
from airflow_zen.cli.progress import progress
from airflow_zen.cli.store_check import store_findings
from airflow_zen.errors import ZenError
from airflow_zen.options import find_options
from airflow_zen.progress import Progress
from airflow_zen.settings import Settings


@suppress_logs_and_warning
def doctor(args: Any) -> None:
    """Look at everything that a step needs; exit with 1 where something is broken."""
    found: list[Finding] = []
    with progress("Looking", args.output) as tell:
        for finding in _findings(args.stack):
            found.append(finding)
            tell(Progress("Looking", len(found), note=finding.check))
    report(found, args.output)


def _findings(stack: str | None) -> Iterator[Finding]:
    yield from installation_findings()
    yield from airflow_findings()
    try:
        settings = Settings.read(stack)
    except ZenError as error:
        yield failed("settings", "cannot be read", str(error))
        return
    yield from _settings(settings)
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (_local_cache, store_findings, mlflow_findings)
    for check in checks:
        yield from check(settings)


def _settings(settings: Settings) -> Iterator[Finding]:
    """Tell every option that somebody set, and who did."""
    yield ok("stack", settings.stack)
    for option in sourced(find_options(settings.stack)):
        if option.value and option.source != "default":
            yield ok(f"[zen] {option.option}", f"{option.value} ({option.source})")


def _local_cache(settings: Settings) -> Iterator[Finding]:
    if not settings.local_cache_dir or "://" not in settings.artifact_root:
        return
    import shutil
    from pathlib import Path

    path = Path(settings.local_cache_dir).expanduser()
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    holds = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.exists() else 0
    told = f"{free / 1024**3:.1f} GiB free, {holds / 1024**3:.1f} of {settings.local_cache_size / 1024**3:.1f} GiB used"
    room = free > settings.local_cache_size - holds
    remedy = f"Make room in {there}, or lower local_cache_size."
    yield ok("local cache", told) if room else warning("local cache", told, remedy)
