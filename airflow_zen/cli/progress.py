"""Show on a terminal how far a command is; what it prints for others to read stays clean."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Display
from rich.table import Column
from rich.text import Text

from airflow_zen.lineage.quantities import bytes_text
from airflow_zen.progress import Progress, Tell, unheard

_FOR_PROGRAMS = ("json", "yaml", "plain")


@contextmanager
def progress(stage: str, output: str = "table") -> Iterator[Tell]:
    """Show `stage`, and then what the function that it gives is told, in a line on stderr until the block ends.

    Nothing is shown where stderr is no terminal, or where `output` is for a program to read.
    """
    console = Console(stderr=True)
    if output in _FOR_PROGRAMS or not (sys.stderr.isatty() and console.is_terminal):
        yield unheard
        return
    # A narrow terminal shows less of the note, and never a second line.
    counts = _Count(Column(no_wrap=True, overflow="ellipsis"))
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), _Bar(bar_width=20), counts, _Left())
    # What a command prints meanwhile goes above the line, but never out of a pipe into the terminal.
    redirected = sys.stdout.isatty()
    with Display(*columns, console=console, transient=True, redirect_stdout=redirected) as display:
        line = _Line(display)
        line(Progress(stage))
        yield line


class _Line:
    """Show the stage that was told of last."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._stage: tuple[str, int | None] | None = None
        self._task: TaskID | None = None

    def __call__(self, told: Progress) -> None:
        stage = (told.stage, told.total)
        if self._task is not None and stage == self._stage:
            self._display.update(self._task, completed=told.done, total=told.total, told=told)
            return
        if self._task is not None:
            # What a stage came to is seen even of one that was over in no time.
            self._display.refresh()
            self._display.remove_task(self._task)
        self._stage = stage
        self._task = self._display.add_task(told.stage, completed=told.done, total=told.total, told=told)


class _Bar(BarColumn):
    """Show a bar where there is an end to it."""

    def render(self, task: Task) -> Text:  # type: ignore[override]
        return Text() if task.total is None else super().render(task)  # type: ignore[return-value]


class _Count(ProgressColumn):
    """Show what is done, of how much, and the note."""

    def render(self, task: Task) -> Text:
        told: Progress = task.fields["told"]
        text: Callable[[int], str] = bytes_text if told.in_bytes else "{:,}".format
        counts = text(told.done) if told.done or told.total is not None else ""
        whole = "" if told.total is None else f" of {text(told.total)}"
        return Text("  ".join(filter(None, (f"{counts}{whole}", told.note))))


class _Left(TimeRemainingColumn):
    """Show the time that is left where it can be known."""

    def render(self, task: Task) -> Text:
        return Text() if task.total is None else super().render(task)
