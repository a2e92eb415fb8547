"""docs/tutorial.md, typed command by command into a shell with an empty home."""

import re

import pytest

from airflow_zen.localstack.processes import find_marked_processes
from airflow_zen.localstack.state import read_local_stack
from tests.localstack.tutorial import DOCUMENT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# What differs from run to run, or with the version of a library.
_VARYING = [
    (r"manual__[\d:.+T-]+", "RUN"),
    (r"\d{4}-\d\d-\d\dT[\d:.Z]+(\+00:00)?", "TIME"),
    (r"^.* ready after.*$", "READY"),
    (r" *[\d.]+ ?(ms|s|min|h|days)\b", " DURATION"),
    (r" *[\d.]+ [kM]?B\b", " SIZE"),
    (r"\b[0-9a-f]{12,64}\b", "DIGEST"),
    (r"\b[0-9a-f]{4}…", "DIGEST…"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"password [\w-]{16}\)", "password PASSWORD)"),
    (r"[=+]{5,}", "RULE"),
]


def normalize(text: str) -> list[str]:
    """Return the lines without what varies, and tables without their alignment and wrapped cells."""
    for pattern, name in _VARYING:
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    lines: list[list[str]] = []
    for line in text.splitlines():
        cells = [" ".join(cell.split()) for cell in line.split(" |")]
        if len(cells) > 1 and not cells[0] and len(lines[-1]) == len(cells):
            cells = [" ".join(pair).strip() for pair in zip(lines.pop(), cells, strict=True)]
        lines.append(cells)
    return [" | ".join(cells) for cells in lines]


def test_tutorial(tutorial):
    """Every command of the tutorial succeeds in a new home, prints what the tutorial shows, and leaves nothing running."""
    stack = read_local_stack(tutorial.directory)
    assert len(find_marked_processes(stack.layout.mark)) > 5
    tutorial.stop()
    assert normalize(tutorial.told) == normalize(DOCUMENT.read_text())
    assert sorted(path.name for path in tutorial.folder.iterdir() if path.suffix != ".py") == [
        ".pytest_cache",
        ".zen",
        "__pycache__",
        "dags",
    ]
    assert find_marked_processes(stack.layout.mark) == []
    assert read_local_stack(tutorial.directory).running_processes() == {}
