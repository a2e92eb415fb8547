"""`airflow zen spin`."""

from __future__ import annotations

import sys
from getpass import getpass
from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ARG_DAG_ID, ARG_TASK_ID

from airflow_zen.cli.command import ARG_STACK, argument, command
from airflow_zen.cli.output import seconds_cell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_zen.testing.spin import SpunStep


@command(
    "spin",
    ARG_DAG_ID,
    ARG_TASK_ID,
    argument("--run", "The id of the DAG run (default: the latest)", metavar="RUN_ID"),
    argument("--map-index", "The index of a mapped task", type=int, default=-1),
    argument("--param", "Another value for a parameter", action="append", default=[], metavar="NAME=VALUE"),
    argument("--as-recorded", "Run the code that the run had, not the code as it is now", action="store_true"),
    argument("--pdb", "Open the debugger where an error is raised", action="store_true"),
    ARG_STACK,
)
def spin_step(args: Any) -> None:
    """Run a task of a recorded DAG run again on this machine, and show how its outputs differ.

    Its inputs are the recorded artifacts, and its parameters the recorded ones; a masked parameter is asked for. Nothing
    is written into the cache, the names of artifacts, the records of runs or MLflow.
    """
    from airflow_zen.testing import spin

    spun = spin(
        args.dag_id,
        args.task_id,
        args.run,
        map_index=args.map_index,
        params=_read_parameters(args.param),
        as_recorded=args.as_recorded,
        ask=_ask if sys.stdin.isatty() else None,
        debug=args.pdb,
        stack=args.stack,
    )
    print("\n".join(_describe(spun)))


def _read_parameters(texts: list[str]) -> dict[str, str]:
    if malformed := [text for text in texts if not text.partition("=")[1]]:
        raise SystemExit(f"--param takes NAME=VALUE, got {malformed[0]!r}.")
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def _ask(parameter: str) -> str:
    return getpass(f"{parameter} (masked in the record): ")


def _describe(spun: SpunStep) -> Iterator[str]:
    run, changes = spun.recorded, spun.changes
    yield f"Replayed {run.id} in {seconds_cell(spun.seconds).text} (recorded: {seconds_cell(run.seconds).text})"
    if changes is None:
        yield "Cache key: none, now or in the record"
    else:
        yield f"Cache key: {'differs in ' + ', '.join(changes) if changes else 'as recorded'}"
    for name, diff in spun.diffs.items():
        if diff is None:
            yield f"Output {name}: the recorded artifact is not stored"
        else:
            yield f"Output {name}: as recorded" if diff.same else f"Output {name} differs\n{diff}"
