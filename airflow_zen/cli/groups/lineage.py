"""`airflow zen lineage`."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE, GroupCommand

from airflow_zen.cli.groups.command import ARG_STACK, argument, lazy_command


def lineage_group() -> GroupCommand:
    """Give the commands about lineage in MLflow."""
    show = lazy_command(
        "show",
        "airflow_zen.cli.ancestry.show_ancestry",
        "Show all that a model or an artifact was made from",
        argument("target", "models:/NAME/VERSION, models:/NAME@ALIAS, an artifact's name (DAG/TASK.OUTPUT) or digest"),
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
        description="Walk from a model or an artifact back to the raw data, over all DAGs, as a tree.",
    )
    sync = lazy_command(
        "sync",
        "airflow_zen.cli.lineage.sync_lineage",
        "Send to MLflow what it has not got yet",
        ARG_STACK,
        ARG_VERBOSE,
        description="Send the step runs that MLflow missed while it was away; doing it twice changes nothing.",
    )
    draw = lazy_command(
        "draw",
        "airflow_zen.cli.lineage.draw_dag_run",
        "Draw the lineage graph of a DAG run anew",
        argument("dag_id", "The DAG"),
        argument("run_id", "The DAG run"),
        ARG_STACK,
        description="Draw the lineage graph of a DAG run on its parent run in MLflow, as when the DAG run ends.",
    )
    return GroupCommand(name="lineage", help="Lineage in MLflow", subcommands=(show, sync, draw))
