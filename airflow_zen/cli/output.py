"""Show rows as Airflow's own commands do: a table, plain columns, JSON or YAML."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Display
from rich.table import Column
from rich.text import Text

from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.lineage.savings import format_bytes
from airflow_zen.progress import Progress, ProgressCallback, ignore_progress

if TYPE_CHECKING:
    from airflow_zen.stack import Stack


def print_rows(rows: Sequence[dict[str, Any]], output: str) -> None:
    """Print rows; in a table brackets are text and no markup: `airflow-provider-zen[s3]`."""
    from airflow.cli.simple_table import AirflowConsole
    from rich.markup import escape

    if output == "table":
        rows = [{name: escape("" if value is None else str(value)) for name, value in row.items()} for row in rows]
    AirflowConsole().print_as(data=rows, output=output)


_MACHINE_FORMATS = ("json", "yaml", "plain")


@contextmanager
def show_progress(stage: str, output: str = "table") -> Iterator[ProgressCallback]:
    """Show `stage`, and then what the function that it gives is told, in a line on stderr until the block ends.

    Nothing is shown where stderr is no terminal, or where `output` is for a program to read.
    """
    console = Console(stderr=True)
    if output in _MACHINE_FORMATS or not (sys.stderr.isatty() and console.is_terminal):
        yield ignore_progress
        return
    # A narrow terminal shows less of the note, and never a second line.
    counts = _CountColumn(Column(no_wrap=True, overflow="ellipsis"))
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        _StageBar(bar_width=20),
        counts,
        _TimeLeftColumn(),
    )
    # What a command prints meanwhile goes above the line, but never out of a pipe into the terminal.
    redirected = sys.stdout.isatty()
    with Display(*columns, console=console, transient=True, redirect_stdout=redirected) as display:
        line = _StageLine(display)
        line(Progress(stage))
        yield line


class _StageLine:
    """Show the stage that was told of last."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._stage: tuple[str, int | None] | None = None
        self._task: TaskID | None = None

    def __call__(self, event: Progress) -> None:
        stage = (event.stage, event.total)
        if self._task is not None and stage == self._stage:
            self._display.update(self._task, completed=event.done, total=event.total, event=event)
            return
        if self._task is not None:
            # What a stage came to is seen even of one that was over in no time.
            self._display.refresh()
            self._display.remove_task(self._task)
        self._stage = stage
        self._task = self._display.add_task(event.stage, completed=event.done, total=event.total, event=event)


class _StageBar(BarColumn):
    """Show a bar where there is an end to it."""

    def render(self, task: Task) -> Text:  # type: ignore[override]
        return Text() if task.total is None else super().render(task)  # type: ignore[return-value]


class _CountColumn(ProgressColumn):
    """Show what is done, of how much, and the note."""

    def render(self, task: Task) -> Text:
        event: Progress = task.fields["event"]
        text: Callable[[int], str] = format_bytes if event.in_bytes else "{:,}".format
        counts = text(event.done) if event.done or event.total is not None else ""
        whole = "" if event.total is None else f" of {text(event.total)}"
        return Text("  ".join(filter(None, (f"{counts}{whole}", event.note))))


class _TimeLeftColumn(TimeRemainingColumn):
    """Show the time that is left where it can be known."""

    def render(self, task: Task) -> Text:
        return Text() if task.total is None else super().render(task)


def open_stack_for(args: Any) -> Stack:
    """Open the stack that `--stack` names, or else the active one."""
    return open_stack(Settings.read(args.stack))
