"""Say on a terminal what a command is at; what it prints for others to read stays clean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def waiting(what: str) -> Iterator[Callable[[str], None]]:
    """Show `what` with a spinner on stderr until the block ends; gives a function that says how far it is."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _text: None
        return
    with console.status(escape(what)) as status:
        yield lambda text: status.update(f"{escape(what)}: {escape(text)}")
