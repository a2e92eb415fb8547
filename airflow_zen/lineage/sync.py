"""Send to MLflow what it has not got yet."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from airflow_zen.errors import ZenError
from airflow_zen.lineage.mlflow import MlflowRecorder
from airflow_zen.lineage.records import StepRunRecords
from airflow_zen.lineage.refusals import MlflowAway
from airflow_zen.lineage.step_run import StepRunId

log = logging.getLogger("airflow_zen.lineage")


@dataclass(frozen=True)
class Delivery:
    """What a delivery did: the step runs that MLflow has now, and those still owed with the reason."""

    delivered: tuple[StepRunId, ...] = ()
    failed: tuple[tuple[StepRunId, str], ...] = ()

    @property
    def dag_runs(self) -> tuple[tuple[str, str], ...]:
        """The DAG runs that something was delivered of; their parent runs may still have to be closed."""
        return tuple(dict.fromkeys((run.dag_id, run.run_id) for run in self.delivered))


def deliver(recorder: MlflowRecorder, records: StepRunRecords) -> Delivery:
    """Replay all undelivered step run records into MLflow, and mark them delivered.

    A record that MLflow has in part is completed; one that it has in full is left as it is. Stops at
    the first sign that the server is away; a record that it refuses does not hold up the others.
    """
    delivered: list[StepRunId] = []
    failed: list[tuple[StepRunId, str]] = []
    for run in records.undelivered():
        try:
            recorder.replay(run)
        except MlflowAway as error:
            failed.append((run.id, str(error)))
            break
        except (ZenError, OSError, KeyError) as error:
            log.warning("%s could not be delivered to MLflow: %s", run.id, error)
            failed.append((run.id, str(error)))
            continue
        records.mark_delivered(run.id)
        delivered.append(run.id)
    return Delivery(tuple(delivered), tuple(failed))
