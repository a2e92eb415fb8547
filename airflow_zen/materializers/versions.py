"""Which version of a distribution is installed, looked up once in a process."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def installed_version(distribution: str) -> str:
    """Give the version of a distribution; `""` where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
