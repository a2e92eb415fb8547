"""Promises of `airflow_zen.markup`."""

import pytest

from airflow_zen.markup import format_bytes, format_count, format_seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (0.44, "0.4 s"), (99.9, "99.9 s"), (720, "12 min"), (22_320, "6.2 h")]
)
def test_durations_as_text(seconds, text):
    """A duration is written in the unit in which it is a small number."""
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (1_400_000, "1.4 MB"), (5e15, "5000.0 TB")])
def test_sizes_as_text(size, text):
    """A number of bytes is written in the unit in which it is a small number."""
    assert format_bytes(size) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 step runs"), (1, "1 step run"), (2, "2 step runs")])
def test_counts_as_text(count, text):
    """One thing is written in the singular, none and several in the plural."""
    assert format_count(count, "step run") == text
