"""`airflow zen materializers`."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE, ActionCommand

from airflow_zen.cli.groups.command import ARG_STACK, lazy_command


def materializers_command() -> ActionCommand:
    """Give the command that says what can be stored."""
    return lazy_command(
        "materializers",
        "airflow_zen.cli.materializers.list_materializers",
        "List the types that can be stored, and what each needs",
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
    )
