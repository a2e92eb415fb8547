"""Output of commands: rows in the formats of Airflow's commands, and the progress of long work on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from rich.progress import Progress as Display
    from rich.progress import ProgressColumn

    from airflow_zen.progress import Progress, ProgressCallback


class Cell(NamedTuple):
    """A value for JSON and YAML, with the text that people read in its place."""

    value: Any
    text: str


def bytes_cell(size: int | None) -> Cell:
    """Return a cell for a number of bytes."""
    from airflow_zen.markup import format_bytes

    return Cell(size, "" if size is None else format_bytes(size))


def seconds_cell(seconds: float | None) -> Cell:
    """Return a cell for a duration."""
    from airflow_zen.markup import format_seconds

    return Cell(seconds, "" if seconds is None else format_seconds(seconds))


def is_machine_readable(output: str) -> bool:
    """Whether `output` is a format for programs, with full values."""
    return output in ("json", "yaml")


def print_rows(rows: Iterable[Mapping[str, Any]], output: str) -> None:
    """Print rows; brackets in a table are text, not markup."""
    from airflow.cli.simple_table import AirflowConsole
    from rich.markup import escape

    def shown(value: Any) -> Any:
        if isinstance(value, Cell):
            value = value.value if is_machine_readable(output) else value.text
        return escape("" if value is None else str(value)) if output == "table" else value

    data = [{name: shown(value) for name, value in row.items()} for row in rows]
    AirflowConsole().print_as(data=data, output=output)


@contextmanager
def show_progress(stage: str, output: str = "table") -> Iterator[ProgressCallback]:
    """Show `stage`, then the progress that the yielded function receives, in one line on stderr until the block ends.

    Show nothing if stderr is not a terminal, or if `output` is for a program.
    """
    from rich.console import Console
    from rich.progress import Progress as Display

    from airflow_zen.progress import Progress, ignore_progress

    console = Console(stderr=True)
    if output != "table" or not (sys.stderr.isatty() and console.is_terminal):
        yield ignore_progress
        return
    # What a command prints meanwhile appears above the line, but a pipe's content never goes to the terminal.
    with Display(console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as display:
        show_event = partial(_show_event, display)
        show_event(Progress(stage))
        yield show_event


def _show_event(display: Display, event: Progress) -> None:
    """Show the latest stage, with a bar and the remaining time if its total is known."""
    state: dict[str, Any] = {"completed": event.done, "total": event.total, "counts": _counts_text(event)}
    for task in display.tasks:
        if (task.description, task.total) == (event.stage, event.total):
            display.update(task.id, **state)
            return
        # The final counts of a stage appear even if it took no time.
        display.refresh()
        display.remove_task(task.id)
    display.columns = _columns(has_total=event.total is not None)
    display.add_task(event.stage, **state)


def _columns(*, has_total: bool) -> tuple[ProgressColumn, ...]:
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.table import Column

    # A narrow terminal truncates the counts instead of wrapping them.
    one_line = Column(no_wrap=True, overflow="ellipsis")
    description = TextColumn("{task.description}", markup=False)
    counts = TextColumn("{task.fields[counts]}", markup=False, table_column=one_line)
    bar, remaining = ((BarColumn(bar_width=20),), (TimeRemainingColumn(),)) if has_total else ((), ())
    return (SpinnerColumn(), description, *bar, counts, *remaining)


def _counts_text(event: Progress) -> str:
    from airflow_zen.markup import format_bytes

    count = format_bytes if event.in_bytes else "{:,}".format
    counts = count(event.done) if event.done or event.total is not None else ""
    total = "" if event.total is None else f" of {count(event.total)}"
    return "  ".join(filter(None, (f"{counts}{total}", event.note)))
