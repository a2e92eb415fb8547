"""`airflow zen cache`."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_DAG_ID, ARG_OUTPUT, ARG_TASK_ID, ARG_VERBOSE, GroupCommand

from airflow_zen.cli.groups.command import ARG_STACK, argument, lazy_command


def cache_group() -> GroupCommand:
    """Give the commands about the step cache."""
    explain = lazy_command(
        "explain",
        "airflow_zen.cli.cache.explain_task",
        "Say why a task was computed and not reused",
        ARG_DAG_ID,
        ARG_TASK_ID,
        argument("--run", "The id of the DAG run; the latest computed result where it is left out"),
        ARG_STACK,
        description="Compare the key of a task's latest result, or of the one of a run, with the closest earlier one.",
    )
    stats = lazy_command(
        "stats",
        "airflow_zen.cli.savings.show_savings",
        "Say how much was reused, and what time that saved",
        argument("dag_id", "The DAG; all where it is left out", nargs="?"),
        argument("--by", "One row for each of these", choices=("dag", "week", "run"), default="dag"),
        argument("--backfill", "Only the runs of the backfill of this id", type=int),
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
        description="Sum up the step runs of a DAG, or of all.",
    )
    listing = lazy_command(
        "list",
        "airflow_zen.cli.cache_contents.list_entries",
        "List the results that are remembered",
        argument("dag_id", "The DAG; all where it is left out", nargs="?"),
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
    )
    clear = lazy_command(
        "clear",
        "airflow_zen.cli.cache_contents.clear_entries",
        "Forget remembered results, so that they are computed anew",
        argument("dag_id", "The DAG; all where it is left out", nargs="?"),
        argument("task_id", "The task; all where it is left out", nargs="?"),
        argument("--older-than", "Only results of this age: 12h, 30d, 2w", metavar="AGE"),
        argument("--yes", "Do not ask", action="store_true"),
        ARG_STACK,
        ARG_VERBOSE,
        description="Forget entries of the step cache and their history. Artifacts stay, and so does what runs.",
    )
    return GroupCommand(name="cache", help="The step cache", subcommands=(explain, stats, listing, clear))
