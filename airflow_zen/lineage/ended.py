"""The end of a DAG run, as Airflow tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_zen.lineage.step_run import StepState


class FinishedDagRun(msgspec.Struct, frozen=True):
    """Say how and when a DAG run ended; `ended` in seconds since the epoch."""

    dag_id: str
    run_id: str
    state: StepState
    ended: float

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> FinishedDagRun:
        """Read back what `msgspec.structs.asdict` wrote."""
        return cls(document["dag_id"], document["run_id"], StepState(document["state"]), float(document["ended"]))
