"""The result of a check, and how results are printed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from operator import attrgetter

from airflow_zen.cli.output import print_rows, show_progress
from airflow_zen.progress import Progress


class FindingState(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """The result of one check: `detail` is the observation, `remedy` the way to fix a problem."""

    check: str
    detail: str
    remedy: str = ""
    state: FindingState = FindingState.OK


ok = Finding
warning = partial(Finding, state=FindingState.WARNING)
failed = partial(Finding, state=FindingState.FAILED)


def ok_if(
    check: str, detail: str, is_ok: bool, problem: str, remedy: str, state: FindingState = FindingState.FAILED
) -> Finding:
    """Return a finding without a problem if `is_ok`, else one of `state` with `problem` as its detail."""
    return ok(check, detail) if is_ok else Finding(check, problem, remedy, state)


def elapsed_text(work: Callable[[], object]) -> str:
    """Call `work`, and return its duration in milliseconds as text."""
    begun = time.perf_counter()
    work()
    return f"{(time.perf_counter() - begun) * 1000:.0f} ms"


def report_findings(findings: Iterable[Finding], stage: str, output: str) -> None:
    """Print findings, with the remedies below a table; raise `SystemExit` with code 1 if a check failed.

    stage: shown on a terminal while the checks run.
    """
    found: list[Finding] = []
    with show_progress(stage, output) as on_progress:
        for finding in findings:
            found.append(finding)
            on_progress(Progress(stage, len(found), note=finding.check))
    if output == "table":
        print_rows([{"check": f.check, "state": f.state, "detail": f.detail} for f in found], output)
        for finding in filter(attrgetter("remedy"), found):
            print(f"{finding.check}: {finding.remedy}")
    else:
        names = ("check", "state", "detail", "remedy")
        print_rows([{name: getattr(finding, name) for name in names} for finding in found], output)
    if any(finding.state is FindingState.FAILED for finding in found):
        raise SystemExit(1)
