"""`airflow zen plan`."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_DAG_ID, ARG_LOGICAL_DATE, ARG_OUTPUT, ARG_VERBOSE, ActionCommand

from airflow_zen.cli.groups.command import ARG_STACK, argument, lazy_command


def plan_command() -> ActionCommand:
    """Give the command that foresees a run."""
    return lazy_command(
        "plan",
        "airflow_zen.cli.plan.show_plan",
        "Say what a run would reuse and what it would compute",
        ARG_DAG_ID,
        argument("--conf", "The run's configuration, as JSON"),
        argument("--partition", "The run's partition key"),
        ARG_STACK,
        ARG_LOGICAL_DATE,
        ARG_OUTPUT,
        ARG_VERBOSE,
        description="For each step: hit, miss or unknown, the reason, and what it took before. Nothing is run.",
    )
