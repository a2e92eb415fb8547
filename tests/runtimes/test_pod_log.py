"""Promises of the log of a pod: which lines are new, and what is no line of it."""

from airflow_zen.runtimes.pod_log import BEGIN, lines_after, seconds_since

LINES = [
    "2026-11-24T10:00:00.000000001Z one\n",
    "2026-11-24T10:00:00.000000001Z two\n",
    "2026-11-24T10:00:01.000000000Z three\n",
]


def test_lines_after_a_position():
    """Two lines of one time are told apart by their numbers."""
    positions = [position for position, _ in lines_after(LINES, BEGIN)]
    assert [line for _, line in lines_after(LINES, positions[0])] == ["two", "three"]
    assert list(lines_after(LINES, positions[2])) == []


def test_an_error_of_the_server_is_no_line():
    """What answers before the container starts has no time, and leaves the position where it was."""
    assert list(lines_after(['{"kind": "Status", "code": 400}\n', "\n"], BEGIN)) == []
    assert seconds_since(BEGIN) is None
