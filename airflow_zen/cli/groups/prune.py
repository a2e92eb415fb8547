"""`airflow zen artifacts prune`."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE, ActionCommand

from airflow_zen.cli.groups.command import ARG_STACK, argument, lazy_command


def prune_command() -> ActionCommand:
    """Give the command that frees the artifact root."""
    return lazy_command(
        "prune",
        "airflow_zen.cli.prune.prune_artifacts",
        "Delete what nobody refers to, and say who holds the rest",
        argument("--unreferenced", "What nothing refers to", action="store_true"),
        argument("--older-than", "Runs, cache entries and versions of this age too, such as 90d"),
        argument("--keep-last", "So many newest versions of each name stay", type=int),
        argument("--grace", "What is younger than this stays; what is condemned goes after it", default="1d"),
        argument("--expire-mlflow-runs", "Delete DAG runs of that age in MLflow too", action="store_true"),
        argument("--without-mlflow", "Do not ask MLflow what it refers to", action="store_true"),
        argument("--dry-run", "Say what would be done, and do nothing", action="store_true"),
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
        description="Mark what versions, DAG runs, cache entries and MLflow hold; condemn the rest; delete what an "
        "earlier prune condemned. Safe beside running tasks.",
    )
