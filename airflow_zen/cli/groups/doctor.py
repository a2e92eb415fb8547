"""`airflow zen doctor`."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE, ActionCommand

from airflow_zen.cli.groups.command import ARG_STACK, lazy_command


def doctor_command() -> ActionCommand:
    """Give the command that looks at everything."""
    return lazy_command(
        "doctor",
        "airflow_zen.cli.doctor.doctor",
        "Look at versions, settings, Airflow, the store and MLflow, and say what to mend",
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
        description="Check this installation and a stack. Exit code 1 where something fails.",
    )
