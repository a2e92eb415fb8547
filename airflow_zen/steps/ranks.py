"""The processes that run one step together under torch's elastic launch, by their ranks."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_zen.steps.runtime import CheckpointPlace, InProcess, StepResult, call_function, use_checkpoints

if TYPE_CHECKING:
    from airflow_zen.steps.runtime import Execution

RANKED_VARIABLE = "AIRFLOW_ZEN_RANKED"
"""The variable of processes that run one step together; others may have a rank of their own, which is none of ours."""


def process_rank(environment: Mapping[str, str]) -> int:
    """Return the rank of a process from its environment; 0 for one that runs a step alone."""
    return int(environment.get("RANK", "0")) if environment.get(RANKED_VARIABLE) else 0


class LaterRank(InProcess, frozen=True):
    """Call the function as a rank beside the first: what it returns is not stored, nor what it logs with MLflow."""

    def execute(self, execution: Execution) -> StepResult:
        """Load the inputs, and call the function."""
        from airflow_zen.lineage.recorder import collect_metadata, log_into_folder

        step, stack = execution.step, execution.stack
        place = CheckpointPlace(stack, execution.run.id, execution.find_key)
        with collect_metadata(execution.collector), use_checkpoints(place), log_into_folder(execution.scratch):
            values = execution.arguments.load(stack, step.parameter_types, execution.scratch)
            result = call_function(step, values, execution.run_hooks.take_event)
            if inspect.isgenerator(result):
                deque(result, maxlen=0)
        return StepResult({})
