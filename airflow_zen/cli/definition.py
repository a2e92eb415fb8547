"""The command group `airflow zen`, as Airflow's command line loads it."""

from __future__ import annotations

from airflow.cli.cli_config import ActionCommand, CLICommand, GroupCommand, lazy_load_command


def get_zen_commands() -> list[CLICommand]:
    """Give the group with its commands; nothing behind them is loaded before one is called."""
    sync = ActionCommand(
        name="sync",
        help="Send to MLflow what it has not got yet",
        description="Send the step runs that MLflow missed while it was away; doing it twice changes nothing.",
        func=lazy_load_command("airflow_zen.cli.lineage.sync"),
        args=(),
    )
    lineage = GroupCommand(name="lineage", help="Lineage in MLflow", subcommands=(sync,))
    return [GroupCommand(name="zen", help="Artifacts, caching and lineage of ML steps", subcommands=(lineage,))]
