"""`airflow zen runs`."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_DAG_ID, ARG_OUTPUT, ARG_VERBOSE, GroupCommand

from airflow_zen.cli.groups.command import ARG_STACK, argument, lazy_command


def runs_group() -> GroupCommand:
    """Give the commands about step runs."""
    show = lazy_command(
        "show",
        "airflow_zen.cli.runs.show_step_runs",
        "Show the step runs of a DAG run",
        ARG_DAG_ID,
        argument("run_id", "The id of the DAG run"),
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
        description="For each step run: its state, whether it was reused and why not, what it took and what it made.",
    )
    return GroupCommand(name="runs", help="Step runs", subcommands=(show,))
