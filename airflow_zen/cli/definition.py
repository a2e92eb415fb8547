"""The command group `airflow zen`, as Airflow's command line loads it."""

from __future__ import annotations

from airflow.cli.cli_config import CLICommand, GroupCommand

from airflow_zen.cli.groups.artifacts import artifacts
from airflow_zen.cli.groups.cache import cache
from airflow_zen.cli.groups.doctor import doctor
from airflow_zen.cli.groups.lineage import lineage
from airflow_zen.cli.groups.materializers import materializers
from airflow_zen.cli.groups.models import models
from airflow_zen.cli.groups.plan import plan
from airflow_zen.cli.groups.runs import runs
from airflow_zen.cli.groups.stack import stack


def get_zen_commands() -> list[CLICommand]:
    """Give the group with its commands."""
    subcommands = (
        plan(),
        artifacts(),
        runs(),
        cache(),
        lineage(),
        models(),
        materializers(),
        stack(),
        doctor(),
    )
    return [GroupCommand(name="zen", help="Artifacts, caching and lineage of ML steps", subcommands=subcommands)]
