"""What a release of Airflow can show."""

from __future__ import annotations


def has_pages(airflow_version: str) -> bool:
    """Whether it can show our pages: theme, components and router, which the bundle takes from it, came with 3.3."""
    return tuple(int(part) for part in airflow_version.split(".")[:2]) >= (3, 3)
