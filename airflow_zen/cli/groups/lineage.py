"""`airflow zen lineage`."""

from __future__ import annotations

from airflow.cli.cli_config import GroupCommand

from airflow_zen.cli.groups.command import ARG_STACK, argument, command


def lineage() -> GroupCommand:
    """Give the commands about lineage in MLflow."""
    sync = command(
        "sync",
        "airflow_zen.cli.lineage.sync",
        "Send to MLflow what it has not got yet",
        ARG_STACK,
        description="Send the step runs that MLflow missed while it was away; doing it twice changes nothing.",
    )
    draw = command(
        "draw",
        "airflow_zen.cli.lineage.draw",
        "Draw the lineage graph of a DAG run anew",
        argument("dag_id", "The DAG"),
        argument("run_id", "The DAG run"),
        ARG_STACK,
        description="Draw the lineage graph of a DAG run on its parent run in MLflow, as when the DAG run ends.",
    )
    return GroupCommand(name="lineage", help="Lineage in MLflow", subcommands=(sync, draw))
