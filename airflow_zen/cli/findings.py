"""What a check finds: sound, worth a remark, or broken and how to mend it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum

from airflow_zen.cli.table import show


class State(StrEnum):
    """How something stands."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `told` is what was seen, `remedy` what mends it."""

    check: str
    state: State
    told: str
    remedy: str = ""


def ok(check: str, told: str) -> Finding:
    """Find something sound."""
    return Finding(check, State.OK, told)


def warning(check: str, told: str, remedy: str = "") -> Finding:
    """Find something that works, and could be better."""
    return Finding(check, State.WARNING, told, remedy)


def failed(check: str, told: str, remedy: str = "") -> Finding:
    """Find something broken."""
    return Finding(check, State.FAILED, told, remedy)


def timed(work: Callable[[], object]) -> str:
    """Do something, and say how long it took."""
    begun = time.perf_counter()
    work()
    return f"{(time.perf_counter() - begun) * 1000:.0f} ms"


def report(findings: Iterable[Finding], output: str) -> None:
    """Show findings, with what is to be done below a table; exit with 1 where something is broken."""
    findings = list(findings)
    if output == "table":
        show([{"check": f.check, "state": f.state, "what was seen": f.told} for f in findings], output)
        for finding in findings:
            if finding.remedy:
                print(f"{finding.check}: {finding.remedy}")
    else:
        show([asdict(finding) for finding in findings], output)
    if any(finding.state is State.FAILED for finding in findings):
        raise SystemExit(1)
