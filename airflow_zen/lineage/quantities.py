"""Numbers as people read them."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB")


def format_seconds(seconds: float) -> str:
    """Write a duration: `0.4 s`, `12 min`, `6.2 h`."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def format_bytes(size: float) -> str:
    """Write a number of bytes: `512 B`, `1.4 MB`."""
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} B" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def format_count(count: int, what: str) -> str:
    """Write how many there are of `what`, which takes an s: `1 task`, `2 tasks`."""
    return f"{count} {what}{'' if count == 1 else 's'}"
