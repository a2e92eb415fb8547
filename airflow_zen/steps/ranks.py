"""The processes that run one step together under torch's elastic launch, by their ranks."""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_zen.errors import ZenError
from airflow_zen.steps.rank_usage import measure_rank
from airflow_zen.steps.runtime import (
    IN_PROCESS,
    CheckpointPlace,
    InProcess,
    Runtime,
    StepResult,
    call_function,
    use_checkpoints,
)

if TYPE_CHECKING:
    from typing import Any

    from airflow_zen.steps.runtime import Execution

log = logging.getLogger("airflow_zen.steps")

RANKED_VARIABLE = "AIRFLOW_ZEN_RANKED"
"""The variable of processes that run one step together; others may have a rank of their own, which is none of ours."""

USAGE_PREFIX = "usage-"
"""The beginning of the names of objects with what a rank used."""


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


class NodeRank(Runtime):
    """Run the function as a rank of a job on several nodes, and store what it used in the artifact root.

    `answer`: the key of the step's answer, beside which the task finds the usage of each rank.
    """

    def __init__(self, answer: str) -> None:
        self._rank = process_rank(os.environ)
        self._key = f"{answer.rpartition('/')[0]}/{USAGE_PREFIX}{self._rank}.json"

    def execute(self, execution: Execution) -> StepResult:
        """Call the function; the result of rank 0 is the step's."""

        def store(usage: Mapping[str, Mapping[str, Any]]) -> None:
            try:
                execution.stack.store.transport.write(self._key, json.dumps(usage).encode())
            except (ZenError, OSError) as error:
                log.warning("What rank %s used is not known: %s", self._rank, error)

        with measure_rank(self._rank, store):
            return (LaterRank() if self._rank else IN_PROCESS).execute(execution)
