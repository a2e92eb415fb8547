"""The command group `airflow zen`, as Airflow's command line loads it."""

from __future__ import annotations

from typing import Any

from airflow.cli.cli_config import (
    ARG_DAG_ID,
    ARG_LOGICAL_DATE,
    ARG_OUTPUT,
    ARG_TASK_ID,
    ARG_VERBOSE,
    ActionCommand,
    Arg,
    CLICommand,
    GroupCommand,
    lazy_load_command,
)


def get_zen_commands() -> list[CLICommand]:
    """Give the group with its commands; nothing behind them is loaded before one is called."""
    sync = ActionCommand(
        name="sync",
        help="Send to MLflow what it has not got yet",
        description="Send the step runs that MLflow missed while it was away; doing it twice changes nothing.",
        func=lazy_load_command("airflow_zen.cli.lineage.sync"),
        args=(),
    )
    draw = ActionCommand(
        name="draw",
        help="Draw the lineage graph of a DAG run anew",
        description="Draw the lineage graph of a DAG run on its parent run in MLflow, as when the DAG run ends.",
        func=lazy_load_command("airflow_zen.cli.lineage.draw"),
        args=(_argument("dag_id", "The DAG"), _argument("run_id", "The DAG run")),
    )
    explain = ActionCommand(
        name="explain",
        help="Say why a task was computed and not reused",
        description="Compare the key of a task's latest result, or of the one of a run, with the closest earlier one.",
        func=lazy_load_command("airflow_zen.cli.cache.explain"),
        args=(
            ARG_DAG_ID,
            ARG_TASK_ID,
            _argument("--run", "The id of the DAG run; the latest computed result where it is left out"),
        ),
    )
    plan = ActionCommand(
        name="plan",
        help="Say what a run would reuse and what it would compute",
        description="For each step: hit, miss or unknown, the reason, and what it took before. Nothing is run.",
        func=lazy_load_command("airflow_zen.cli.plan.plan"),
        args=(
            ARG_DAG_ID,
            _argument("--conf", "The run's configuration, as JSON"),
            _argument("--partition", "The run's partition key"),
            ARG_LOGICAL_DATE,
            ARG_OUTPUT,
            ARG_VERBOSE,
        ),
    )
    stats = ActionCommand(
        name="stats",
        help="Say how much was reused, and what time that saved",
        description="Sum up the step runs of a DAG, or of all.",
        func=lazy_load_command("airflow_zen.cli.savings.stats"),
        args=(
            _argument("dag_id", "The DAG; all where it is left out", nargs="?"),
            _argument("--by", "One row for each of these", choices=("dag", "week", "run"), default="dag"),
            _argument("--backfill", "Only the runs of the backfill of this id", type=int),
            ARG_OUTPUT,
            ARG_VERBOSE,
        ),
    )
    cache = GroupCommand(name="cache", help="The step cache", subcommands=(explain, stats))
    lineage = GroupCommand(name="lineage", help="Lineage in MLflow", subcommands=(sync, draw))
    return [
        GroupCommand(name="zen", help="Artifacts, caching and lineage of ML steps", subcommands=(plan, cache, lineage))
    ]


def _argument(name: str, about: str, **options: Any) -> Arg:
    return Arg((name,), help=about, **options)  # type: ignore[no-untyped-call]
