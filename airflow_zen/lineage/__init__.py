"""Lineage: the projection of step run records into MLflow, and queries for producers and readers of artifacts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_zen.lineage.ancestry import (
        ancestry_of,
        ancestry_of_content,
        run_of_model,
        runs_that_made,
        runs_that_read,
    )
    from airflow_zen.lineage.found_runs import Ancestry, FoundArtifact, FoundRun, FoundRuns

__all__ = [
    "Ancestry",
    "FoundArtifact",
    "FoundRun",
    "FoundRuns",
    "ancestry_of",
    "ancestry_of_content",
    "run_of_model",
    "runs_that_made",
    "runs_that_read",
]


def __getattr__(name: str) -> Any:
    """Import the queries when one is used; no task needs them."""
    if name not in __all__:
        raise AttributeError(f"module 'airflow_zen.lineage' has no attribute {name!r}")
    from airflow_zen.lineage import ancestry

    return getattr(ancestry, name)


def __dir__() -> list[str]:
    return __all__
