"""`airflow zen materializers`."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE, ActionCommand

from airflow_zen.cli.groups.command import ARG_STACK, command


def materializers() -> ActionCommand:
    """Give the command that says what can be stored."""
    return command(
        "materializers",
        "airflow_zen.cli.materializers.show",
        "List the types that can be stored, and what each needs",
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
    )
