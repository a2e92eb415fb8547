"""The command group `airflow zen`, as Airflow's command line loads it."""

from __future__ import annotations

from airflow.cli.cli_config import (
    ARG_DAG_ID,
    ARG_LOGICAL_DATE,
    ARG_OUTPUT,
    ARG_TASK_ID,
    ARG_VERBOSE,
    ActionCommand,
    CLICommand,
    GroupCommand,
)

from airflow_zen.cli.definition_arguments import ARG_STACK, argument, lazy_command
from airflow_zen.cli.definition_artifacts import artifacts_group
from airflow_zen.cli.definition_stack import stack_group


def get_zen_commands() -> list[CLICommand]:
    """Give the group with its commands."""
    subcommands = (
        plan_command(),
        artifacts_group(),
        runs_group(),
        cache_group(),
        lineage_group(),
        models_group(),
        materializers_command(),
        stack_group(),
        doctor_command(),
    )
    return [GroupCommand(name="zen", help="Artifacts, caching and lineage of ML steps", subcommands=subcommands)]


def doctor_command() -> ActionCommand:
    """Give the command that looks at everything."""
    return lazy_command(
        "doctor",
        "airflow_zen.doctor.command.doctor",
        "Look at versions, settings, Airflow, the store and MLflow, and say what to mend",
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
        description="Check this installation and a stack. Exit code 1 where something fails.",
    )


def lineage_group() -> GroupCommand:
    """Give the commands about lineage in MLflow."""
    show = lazy_command(
        "show",
        "airflow_zen.cli.lineage.show_ancestry",
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


def models_group() -> GroupCommand:
    """Give the commands about registered models."""
    listing = lazy_command(
        "list",
        "airflow_zen.cli.models.list_models",
        "List the registered models, or the versions of one",
        argument("name", "The model; all where it is left out", nargs="?"),
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
    )
    promote = lazy_command(
        "promote",
        "airflow_zen.cli.models.promote_model",
        "Point an alias at a version of a model",
        argument("name", "The registered model"),
        argument("version", "The version, a number"),
        argument("alias", "The alias, such as champion"),
        ARG_STACK,
        description="Point an alias at a version; a model or version that there is not is refused.",
    )
    return GroupCommand(name="models", help="Registered models in MLflow", subcommands=(listing, promote))


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
        "airflow_zen.cli.cache.show_savings",
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
        "airflow_zen.cli.cache.list_entries",
        "List the results that are remembered",
        argument("dag_id", "The DAG; all where it is left out", nargs="?"),
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
    )
    clear = lazy_command(
        "clear",
        "airflow_zen.cli.cache.clear_entries",
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
