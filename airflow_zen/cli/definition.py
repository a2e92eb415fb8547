"""The command group `airflow zen`, as Airflow's command line loads it."""

from __future__ import annotations

from airflow.cli.cli_config import CLICommand, GroupCommand

from airflow_zen.cli.groups.artifacts import artifacts_group
from airflow_zen.cli.groups.cache import cache_group
from airflow_zen.cli.groups.doctor import doctor_command
from airflow_zen.cli.groups.lineage import lineage_group
from airflow_zen.cli.groups.materializers import materializers_command
from airflow_zen.cli.groups.models import models_group
from airflow_zen.cli.groups.plan import plan_command
from airflow_zen.cli.groups.runs import runs_group
from airflow_zen.cli.groups.stack import stack_group


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
