"""The commands of `airflow zen`: the decorator that makes one of a function, and the group that Airflow loads.

Every `airflow` process loads all files of the folder. They import only each other at the top, and what they work with
inside their functions.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE, ActionCommand, Arg, CLICommand, GroupCommand
from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen import cli
from airflow_zen.errors import ZenError

if TYPE_CHECKING:
    from airflow_zen.stack import Stack

_GROUPS = {
    "artifacts": "Named artifacts and their versions",
    "runs": "Step runs",
    "cache": "The step cache",
    "lineage": "Lineage in MLflow",
    "models": "Registered models in MLflow",
    "stack": "Stacks: an artifact root, an MLflow and options",
    "runtimes": "Virtual environments of steps on this machine",
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


def command(name: str, *arguments: Arg) -> Callable[[Callable[[Any], None]], ActionCommand]:
    """Make a command of a function that takes the parsed arguments.

    name: with its group, such as `cache list`. The function's docstring is the command's description, and its first
    line the help. Without `--verbose`, a command that has this option hides logs and warnings. A `ZenError` is printed
    without a stack trace, with exit code 1.
    """

    def make(function: Callable[[Any], None]) -> ActionCommand:
        body = suppress_logs_and_warning(function) if ARG_VERBOSE in arguments else function
        description = inspect.getdoc(function) or name

        @wraps(function)
        def run(args: Any) -> None:
            # Airflow then finds connections in its database too.
            os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
            try:
                body(args)
            except ZenError as error:
                raise SystemExit(str(error)) from error

        help_text = description.partition("\n")[0].rstrip(".")
        return ActionCommand(name, help_text, run, arguments, " ".join(description.split()))

    return make


def argument(name: str, help_text: str, **options: Any) -> Arg:
    """Describe an argument, with argparse's own options."""
    return Arg((name,), help=help_text, **options)  # type: ignore[no-untyped-call]


ARG_STACK = argument("--stack", "The stack to use (default: the active one)", metavar="NAME")
STACK_AND_OUTPUT = (ARG_STACK, ARG_OUTPUT, ARG_VERBOSE)


def open_stack_for(args: Any) -> Stack:
    """Open the stack that `--stack` names, or the active one."""
    from airflow_zen.config.settings import Settings, open_stack

    return open_stack(Settings.read(args.stack))
