"""The end of a DAG run, as Airflow tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_zen.lineage.step_run import StepState


@dataclass(frozen=True)
class EndedDagRun:
    """Say how and when a DAG run ended; `ended` in seconds since the epoch."""

    dag_id: str
    run_id: str
    state: StepState
    ended: float

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> EndedDagRun:
        """Read back what `dataclasses.asdict` wrote."""
        return cls(document["dag_id"], document["run_id"], StepState(document["state"]), float(document["ended"]))
