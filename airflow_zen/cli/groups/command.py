"""Describe commands and arguments to Airflow's command line; nothing behind them is loaded before one is called."""

from __future__ import annotations

from typing import Any

from airflow.cli.cli_config import ActionCommand, Arg, lazy_load_command


def command(name: str, function: str, about: str, *arguments: Arg, description: str = "") -> ActionCommand:
    """Describe a command by its function's dotted path, a line of help, and its arguments."""
    return ActionCommand(
        name=name, help=about, description=description or about, func=lazy_load_command(function), args=arguments
    )


def argument(name: str, about: str, **options: Any) -> Arg:
    """Describe an argument, with argparse's own options."""
    return Arg((name,), help=about, **options)  # type: ignore[no-untyped-call]
