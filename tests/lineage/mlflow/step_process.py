"""A step as `run_step` has it, for processes that tests start."""

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.lineage.recorder import temporary_environment
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState
from airflow_zen.transports import open_transport

ENVIRONMENT = dict(os.environ)


def run_code(
    uri: str, root: str, dag_id: str, code: str, options: Any = None, at: Callable[[str], None] = lambda moment: None
) -> Any:
    """Run code as the function of a step; return the run's id, whether all was delivered, its error and its `seen`.

    `options` are those of the recorder; `at` hears of the moments "opened", "called", "sent" and "recorded".
    """
    transport = open_transport(root, {})
    recorder = MlflowRecorder(MlflowRest(TrackingServer(uri)), transport, root, **(options or {}))
    run = StepRun(StepRunId(dag_id, "manual__1", "train"), started=1_700_000_000.0, parameters={"depth": 8})
    opened = recorder.start(run)
    at("opened")
    said: dict[str, Any] = {}
    error = ""
    with temporary_environment(opened.environment):
        try:
            exec(code, said)
        except Exception as failure:
            error = repr(failure)
        at("called")
    state = StepState.FAILED if error else StepState.FINISHED
    ended = replace(run, state=state, ended=1_700_000_009.0, error=error)
    delivered = recorder.finish(ended, opened)
    at("sent")
    StepRunRecords(transport).put(ended, delivered)
    at("recorded")
    recorder.on_record_stored(ended)
    return [opened.run_id, delivered, error, said.get("seen")]


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    # MLflow prints links, in child processes too.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(run_code(*json.loads(line))), file=answers, flush=True)
