"""`airflow zen doctor`."""

from __future__ import annotations

from typing import Any

from airflow_zen.cli.command import STACK_AND_OUTPUT, command


@command("doctor", *STACK_AND_OUTPUT)
def doctor(args: Any) -> None:
    """Check versions, options, Airflow, the store and MLflow, and report how to fix problems.

    Exit code 1 if a check fails.
    """
    from airflow_zen.doctor.airflow import all_findings
    from airflow_zen.doctor.findings import report_findings

    report_findings(all_findings(args.stack), "Checking", args.output)
