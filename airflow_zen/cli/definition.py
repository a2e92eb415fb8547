"""The command group `airflow zen`, as Airflow's command line loads it."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from airflow.cli.cli_config import ActionCommand, CLICommand, GroupCommand

from airflow_zen import cli

_GROUPS = {
    "artifacts": "Named artifacts and their versions",
    "runs": "Step runs",
    "cache": "The step cache",
    "lineage": "Lineage in MLflow",
    "models": "Registered models in MLflow",
    "stack": "Stacks: an artifact root, an MLflow and options",
}


def get_zen_commands() -> list[CLICommand]:
    """Return the group with the commands of every file of this package."""
    modules = [import_module(f"{cli.__name__}.{file.name}") for file in iter_modules(cli.__path__)]
    groups: dict[str, list[ActionCommand]] = {group: [] for group in ("", *_GROUPS)}
    for found in (each for module in modules for each in vars(module).values() if isinstance(each, ActionCommand)):
        group, _, name = found.name.rpartition(" ")
        groups[group].append(found._replace(name=name))
    commands = [*groups.pop(""), *(GroupCommand(name, _GROUPS[name], found) for name, found in groups.items())]
    return [GroupCommand("zen", "Artifacts, caching and lineage of ML steps", commands)]
