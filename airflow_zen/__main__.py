"""`python -m airflow_zen …`: the commands of `airflow zen` in Airflow 3.1, whose command line takes none from providers."""

from __future__ import annotations

import sys


def main() -> None:
    """Add the commands to Airflow's command line, and call it."""
    from airflow.__main__ import main as call_airflow
    from airflow.cli import cli_parser

    from airflow_zen.cli.command import get_zen_commands

    cli_parser.ALL_COMMANDS_DICT.update({command.name: command for command in get_zen_commands()})
    sys.argv = ["airflow", "zen", *sys.argv[1:]]
    call_airflow()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
