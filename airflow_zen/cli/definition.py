"""The command group `airflow zen`, as Airflow's command line loads it."""

from __future__ import annotations

from airflow.cli.cli_config import CLICommand, GroupCommand

from airflow_zen.cli import artifacts, cache, lineage, materializers, models, plan, prune, runs, stack_up, stacks
from airflow_zen.doctor import command as doctor


def get_zen_commands() -> list[CLICommand]:
    """Return the group with its commands."""
    groups = (
        plan.show_plan,
        GroupCommand("artifacts", "Named artifacts and their versions", (*artifacts.COMMANDS, prune.prune_artifacts)),
        GroupCommand("runs", "Step runs", (runs.show_step_runs,)),
        GroupCommand("cache", "The step cache", cache.COMMANDS),
        GroupCommand("lineage", "Lineage in MLflow", lineage.COMMANDS),
        GroupCommand("models", "Registered models in MLflow", models.COMMANDS),
        materializers.list_materializers,
        GroupCommand(
            "stack", "Stacks: an artifact root, an MLflow and options", (*stacks.COMMANDS, *stack_up.COMMANDS)
        ),
        doctor.doctor,
    )
    return [GroupCommand("zen", "Artifacts, caching and lineage of ML steps", groups)]
