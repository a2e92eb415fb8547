"""Describe commands and arguments to Airflow's command line; nothing behind them is loaded before one is called."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

from airflow.cli.cli_config import ActionCommand, Arg, lazy_load_command

from airflow_zen.errors import ZenError


def lazy_command(name: str, function: str, help_text: str, *arguments: Arg, description: str = "") -> ActionCommand:
    """Describe a command by its function's dotted path, a line of help, and its arguments."""
    return ActionCommand(
        name=name,
        help=help_text,
        description=description or help_text,
        func=_exit_on_zen_error(lazy_load_command(function)),
        args=arguments,
    )


def _exit_on_zen_error(function: Callable[..., Any]) -> Callable[..., Any]:
    """Tell an error of ours in its own words, with exit code 1; let connections be read from Airflow's database."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
        try:
            return function(*args, **kwargs)
        except ZenError as error:
            raise SystemExit(str(error)) from error

    return run


def argument(name: str, help_text: str, **options: Any) -> Arg:
    """Describe an argument, with argparse's own options."""
    return Arg((name,), help=help_text, **options)  # type: ignore[no-untyped-call]


ARG_STACK = argument("--stack", "The stack to look into; the active one where it is left out", metavar="NAME")
