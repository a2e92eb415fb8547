"""Send to MLflow what it has not got yet."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import ZenError
from airflow_zen.lineage.mlflow.errors import MlflowRejected, MlflowUnavailable
from airflow_zen.lineage.mlflow.experiments import find_experiment
from airflow_zen.lineage.mlflow.tags import parent_filter, quote_filter_value
from airflow_zen.progress import ProgressCallback, ignore_progress, track_items
from airflow_zen.runs.step_run import FinishedDagRun, StepRunId, StepState

if TYPE_CHECKING:
    from airflow_zen.artifacts.leases import StoreLock
    from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
    from airflow_zen.lineage.mlflow.rest import MlflowRest
    from airflow_zen.runs.records import StepRunRecords

log = logging.getLogger("airflow_zen.lineage")

_MAX_DELIVERIES = 500


@dataclass(frozen=True)
class Delivery:
    """What a delivery did: the step runs that MLflow has now, and those still owed with the reason."""

    delivered: tuple[StepRunId, ...] = ()
    failed: tuple[tuple[StepRunId, str], ...] = ()


def sync_pending(
    recorder: MlflowRecorder,
    records: StepRunRecords,
    clock: Callable[[], float],
    on_progress: ProgressCallback = ignore_progress,
) -> Delivery | None:
    """Deliver what is owed, at most 500 step runs, then close and draw the DAG runs that have ended.

    What killed steps left on this host is owed too. None where another process is about it. What fails stays owed.
    `on_progress` hears how far it is.
    """
    with records.delivery_lock(clock) as lock:
        if not lock:
            return None
        recorder.recover_orphans()
        delivery = deliver_pending(recorder, records, lock, on_progress)
        for run in track_items(records.finished_dag_runs(), "Closing DAG runs in MLflow", on_progress):
            if not lock.allows_new_work:
                break
            try:
                publish_finished_dag_run(recorder, records, run)
            except MlflowUnavailable as error:
                log.warning("The lineage of %s/%s is shown when MLflow is back: %s", run.dag_id, run.run_id, error)
                break
            except (ZenError, OSError) as error:
                log.warning("The lineage of %s/%s could not be shown: %s", run.dag_id, run.run_id, error)
        return delivery


def publish_finished_dag_run(recorder: MlflowRecorder, records: StepRunRecords, run: FinishedDagRun) -> None:
    """Close and draw one DAG run; raises `LineageError` when MLflow is away or refuses.

    While a step of it is owed its end stays in mind: it is drawn again with that step.
    """
    close_parent_run(recorder.rest, run)
    try:
        recorder.publish_graph(run.dag_id, run.run_id, records)
    except (KeyError, ValueError) as error:
        log.warning("The lineage of %s/%s cannot be drawn: %r", run.dag_id, run.run_id, error, exc_info=error)
    if not records.has_undelivered(run.dag_id, run.run_id):
        records.delete_finished_dag_run(run)


def deliver_pending(
    recorder: MlflowRecorder,
    records: StepRunRecords,
    lock: StoreLock | None = None,
    on_progress: ProgressCallback = ignore_progress,
) -> Delivery:
    """Replay undelivered step run records into MLflow, and mark them delivered; at most 500, and while `lock` lasts.

    A record that MLflow has in part is completed; one that it has in full is left as it is. Stops at
    the first sign that the server is away; a record that it refuses does not hold up the others, and is
    set aside when it does so again and again.
    """
    delivered: list[StepRunId] = []
    failed: list[tuple[StepRunId, str]] = []
    markers = records.undelivered_markers()
    for run in track_items(records.undelivered(markers), "Delivering step runs", on_progress, len(markers)):
        if len(delivered) == _MAX_DELIVERIES or (lock and not lock.allows_new_work):
            break
        try:
            recorder.replay(run)
        except MlflowUnavailable as error:
            failed.append((run.id, str(error)))
            break
        except (ZenError, OSError, KeyError) as error:
            log.warning("%s could not be delivered to MLflow: %s", run.id, error)
            failed.append((run.id, str(error)))
            if _is_permanent(error) and records.record_rejection(run.id, str(error)):
                log.warning("%s is set aside until `airflow zen lineage sync` is called: %s", run.id, error)
            continue
        records.mark_delivered(run.id)
        delivered.append(run.id)
    return Delivery(tuple(delivered), tuple(failed))


def _is_permanent(error: Exception) -> bool:
    """Tell a fault of the record from one of the server, the store or our permissions, which may be mended."""
    if isinstance(error, MlflowRejected):
        return error.is_client_error
    return isinstance(error, KeyError)


_PER_PAGE = 100


def close_parent_run(rest: MlflowRest, run: FinishedDagRun) -> None:
    """Give a DAG run's parent run its end state and time.

    Step runs that never ended, because their process died, end as KILLED. Three requests, and one
    for each such step run. Raises `LineageError` when MLflow is away or refuses. A DAG run without a
    parent run has nothing to close.
    """
    experiment = find_experiment(run.dag_id, rest)
    if experiment is None or experiment.deleted:
        return
    for parent in _search_run_ids(rest, experiment.id, parent_filter(run.dag_id, run.run_id)):
        _close_runs(rest, experiment.id, parent, run.state, run.ended)


def _close_runs(rest: MlflowRest, experiment_id: str, parent: str, state: StepState, ended: float) -> None:
    _end_run(rest, parent, state, ended)
    unfinished = f"tags.`mlflow.parentRunId` = {quote_filter_value(parent)} AND attributes.status = 'RUNNING'"
    for step in _search_run_ids(rest, experiment_id, unfinished):
        _end_run(rest, step, StepState.KILLED, ended)


def _end_run(rest: MlflowRest, run_id: str, state: StepState, ended: float) -> None:
    rest.post("runs/update", {"run_id": run_id, "status": str(state), "end_time": round(ended * 1000)})


def _search_run_ids(rest: MlflowRest, experiment_id: str, condition: str) -> list[str]:
    """Find runs by page; all of them before any is changed, because that would shift the pages."""
    request: dict[str, Any] = {"experiment_ids": [experiment_id], "filter": condition, "max_results": _PER_PAGE}
    found = rest.paginate("runs/search", request, "runs")
    return [run["info"]["run_id"] for run in found]
