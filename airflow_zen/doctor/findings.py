"""What a check finds: sound, worth a remark, or broken and how to mend it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum

from airflow_zen.cli.output import print_rows


class FindingState(StrEnum):
    """How something stands."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `told` is what was seen, `remedy` what mends it."""

    check: str
    state: FindingState
    detail: str
    remedy: str = ""


def ok(check: str, detail: str) -> Finding:
    """Find something sound."""
    return Finding(check, FindingState.OK, detail)


def warning(check: str, detail: str, remedy: str = "") -> Finding:
    """Find something that works, and could be better."""
    return Finding(check, FindingState.WARNING, detail, remedy)


def failed(check: str, detail: str, remedy: str = "") -> Finding:
    """Find something broken."""
    return Finding(check, FindingState.FAILED, detail, remedy)


def elapsed_text(work: Callable[[], object]) -> str:
    """Do something, and say how long it took."""
    begun = time.perf_counter()
    work()
    return f"{(time.perf_counter() - begun) * 1000:.0f} ms"


def print_findings(findings: Iterable[Finding], output: str) -> None:
    """Show findings, with what is to be done below a table; exit with 1 where something is broken."""
    findings = list(findings)
    if output == "table":
        print_rows([{"check": f.check, "state": f.state, "what was seen": f.detail} for f in findings], output)
        for finding in findings:
            if finding.remedy:
                print(f"{finding.check}: {finding.remedy}")
    else:
        print_rows([asdict(finding) for finding in findings], output)
    if any(finding.state is FindingState.FAILED for finding in findings):
        raise SystemExit(1)
