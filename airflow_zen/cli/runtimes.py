"""`airflow zen runtimes list`, `prune` and `forget`."""

from __future__ import annotations

from typing import Any

from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE

from airflow_zen.cli.command import STACK_AND_OUTPUT, argument, command, open_stack_for
from airflow_zen.cli.output import bytes_cell, print_rows


@command("runtimes list", ARG_OUTPUT, ARG_VERBOSE)
def list_environments(args: Any) -> None:
    """List the virtual environments of steps on this machine.

    The least recently used come first. The size counts files that environments share in each of them.
    """
    from airflow_zen.runtimes.environments import Environments

    print_rows(map(_row, Environments.configured().stored()), args.output)


@command(
    "runtimes prune",
    argument("--unused-for", "Delete what no task has used for this time, such as 30d", metavar="AGE"),
    argument("--all", "Delete all that no task uses now", action="store_true"),
    ARG_OUTPUT,
    ARG_VERBOSE,
)
def prune_environments(args: Any) -> None:
    """Delete virtual environments of steps on this machine, and print them.

    Without an option, the least recently used above [zen] environments_size are deleted, and what killed processes left.
    An environment that a task uses stays.
    """
    import time

    from airflow_zen.pruning.retention import parse_duration
    from airflow_zen.runtimes.environments import Environments

    before = time.time() - parse_duration(args.unused_for) if args.unused_for else None
    print_rows(map(_row, Environments.configured().prune(before, 0 if args.all else None)), args.output)


@command("runtimes forget", *STACK_AND_OUTPUT)
def forget_resolutions(args: Any) -> None:
    """Forget what requirements of steps were resolved to, so that the next run takes the newest versions they allow.

    Steps whose versions then differ are computed again.
    """
    from airflow_zen.runtimes.virtualenv import RESOLUTIONS

    transport = open_stack_for(args).store.transport
    keys = list(transport.list(RESOLUTIONS))
    transport.delete(keys)
    print_rows([{"forgotten": key.rpartition("/")[2]} for key in keys], args.output)


def _row(stored: Any) -> dict[str, Any]:
    from datetime import UTC, datetime

    used = datetime.fromtimestamp(stored.used, UTC).isoformat(timespec="minutes")
    requirements = ", ".join(stored.requirements)
    return {
        "environment": stored.key,
        "python": stored.python,
        "size": bytes_cell(stored.size),
        "last used": used,
        "distributions": requirements,
    }
