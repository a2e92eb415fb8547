"""`airflow zen doctor` and `airflow zen stack check`."""

from __future__ import annotations

from typing import Any

from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE

from airflow_zen.cli.command import STACK_AND_OUTPUT, command
from airflow_zen.cli.stacks import STACK_NAME


@command("doctor", *STACK_AND_OUTPUT)
def doctor(args: Any) -> None:
    """Check versions, options, Airflow, the store and MLflow, and report how to fix problems.

    Exit code 1 if a check fails.
    """
    from airflow_zen.doctor.airflow import all_findings
    from airflow_zen.doctor.findings import report_findings

    report_findings(all_findings(args.stack), "Checking", args.output)


@command("stack check", STACK_NAME, ARG_OUTPUT, ARG_VERBOSE)
def check(args: Any) -> None:
    """Check a stack, and report problems and their remedies.

    Write, read, list and delete a probe in the store, and send requests to MLflow. Exit code 1 if a check fails.
    """
    from airflow_zen.config.settings import Settings
    from airflow_zen.doctor.findings import report_findings
    from airflow_zen.doctor.mlflow import mlflow_findings
    from airflow_zen.doctor.store import store_findings

    settings = Settings.read(args.stack)
    findings = (finding for check in (store_findings, mlflow_findings) for finding in check(settings))
    report_findings(findings, f"Checking stack {settings.stack!r}", args.output)
