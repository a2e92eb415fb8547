"""The logs of a local stack's parts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from airflow_zen.localstack.stack import read_local_stack
from airflow_zen.localstack.state import StackError

_POLL_SECONDS = 0.3
_READ_SIZE = 64 * 1024


def log_files(directory: Path, part: str | None) -> dict[str, Path]:
    """Give the log of a part, or of all; raises `StackError` naming the parts that have one."""
    stack = read_local_stack(directory)
    found = {file.stem: file for file in sorted((directory / "logs").glob("*.log"))}
    if stack is None or not found:
        raise StackError(f"Nothing was ever started in {directory}.")
    if part is not None and part not in found:
        raise StackError(f"There is no log of {part!r}; there are {', '.join(found)}.")
    return found if part is None else {part: found[part]}


def tail_logs(files: dict[str, Path], lines: int) -> Iterator[str]:
    """Give the last lines of each log, under its name where there are several."""
    for name, file in files.items():
        if len(files) > 1:
            yield f"== {name} =="
        text = file.read_text(errors="replace").splitlines()
        yield from text[-lines:] if lines else ()


def follow_logs(files: dict[str, Path]) -> Iterator[str]:
    """Give what is written from now on, for ever; each line with its part's name where there are several."""
    offsets = {name: file.stat().st_size for name, file in files.items()}
    partial_lines = dict.fromkeys(files, b"")
    while True:
        any_output = False
        for name, file in files.items():
            with file.open("rb") as log:
                log.seek(offsets[name])
                new = log.read(_READ_SIZE)
            offsets[name] += len(new)
            *whole, partial_lines[name] = (partial_lines[name] + new).split(b"\n")
            for line in whole:
                any_output = True
                text = line.decode(errors="replace")
                yield f"{name}: {text}" if len(files) > 1 else text
        if not any_output:
            time.sleep(_POLL_SECONDS)
