"""Delivery of pending lineage to MLflow: step runs, and the ends of DAG runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from airflow_zen.errors import ZenError
from airflow_zen.lineage.mlflow.dag_runs import nested_in
from airflow_zen.lineage.mlflow.encoding import to_milliseconds
from airflow_zen.lineage.mlflow.errors import MlflowRejected, MlflowUnavailable
from airflow_zen.lineage.mlflow.parent_runs import find_experiment
from airflow_zen.lineage.mlflow.tags import parent_filter
from airflow_zen.progress import ProgressCallback, ignore_progress, track_items
from airflow_zen.runs.step_run import FinishedDagRun, StepRun, StepRunId, StepState

if TYPE_CHECKING:
    from airflow_zen.artifacts.leases import StoreLock
    from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
    from airflow_zen.lineage.mlflow.rest import MlflowRest
    from airflow_zen.runs.records import StepRunRecords

log = logging.getLogger("airflow_zen.lineage")

_MAX_DELIVERIES = 500


class Delivery(msgspec.Struct, frozen=True):
    """The step runs that were delivered to MLflow, and those that were not with the reason."""

    delivered: tuple[StepRunId, ...] = ()
    failed: tuple[tuple[StepRunId, str], ...] = ()


def sync_pending(
    recorder: MlflowRecorder,
    records: StepRunRecords,
    clock: Callable[[], float],
    on_progress: ProgressCallback = ignore_progress,
) -> Delivery | None:
    """Deliver undelivered step runs, at most 500, then close and draw the DAG runs that have ended.

    This includes records that killed steps left on this host. A delivery that fails is repeated by the next call.
    Return None if another process is delivering.
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
                log.warning("The lineage of %s/%s is shown when MLflow is available: %s", run.dag_id, run.run_id, error)
                break
            except (ZenError, OSError) as error:
                log.warning("The lineage of %s/%s could not be shown: %s", run.dag_id, run.run_id, error)
        return delivery


def deliver_pending(
    recorder: MlflowRecorder,
    records: StepRunRecords,
    lock: StoreLock | None = None,
    on_progress: ProgressCallback = ignore_progress,
) -> Delivery:
    """Replay undelivered step runs into MLflow, and mark them as delivered; at most 500, and while `lock` is valid.

    What MLflow has already is not sent again. Delivery stops when the server is unavailable. A record that MLflow
    refuses does not stop the others, and is set aside when it was refused several times.
    """
    delivered: list[StepRunId] = []
    failed: list[tuple[StepRunId, str]] = []
    markers = records.undelivered_markers()
    runs = _oldest_first(records.undelivered(markers))
    for run in track_items(runs, "Delivering step runs", on_progress, len(markers)):
        if len(delivered) == _MAX_DELIVERIES or (lock and not lock.allows_new_work):
            break
        try:
            recorder.replay(run)
        except MlflowUnavailable as error:
            failed.append((run.id, str(error)))
            break
        except (ZenError, OSError, KeyError) as error:
            failed.append((run.id, str(error)))
            _record_failure(records, run.id, error)
        else:
            records.mark_delivered(run.id)
            delivered.append(run.id)
    return Delivery(tuple(delivered), tuple(failed))


def _oldest_first(runs: Iterator[StepRun]) -> Iterator[StepRun]:
    """Yield runs in the order of their starts, 500 at a time: what a step refers to was made by one before it."""
    while some := sorted(islice(runs, _MAX_DELIVERIES), key=lambda run: run.started):
        yield from some


def publish_finished_dag_run(recorder: MlflowRecorder, records: StepRunRecords, run: FinishedDagRun) -> None:
    """Close and draw one DAG run. Raises `LineageError` when MLflow is unavailable or refuses.

    While one of its steps is undelivered, its end is kept, and it is drawn again with that step.
    """
    close_parent_run(recorder.rest, run)
    try:
        recorder.publish_graph(run.dag_id, run.run_id, records)
    except (KeyError, ValueError) as error:
        log.warning("The lineage of %s/%s cannot be drawn: %r", run.dag_id, run.run_id, error, exc_info=error)
    if not records.has_undelivered(run.dag_id, run.run_id):
        records.delete_finished_dag_run(run)


def close_parent_run(rest: MlflowRest, run: FinishedDagRun) -> None:
    """Set the end state and time of a DAG run's parent run, if it has one.

    Step runs that have not ended, because their process was killed, become KILLED. Four requests, and one for each such
    step run. Raises `LineageError` when MLflow is unavailable or refuses.
    """
    experiment = find_experiment(run.dag_id, rest)
    if experiment is None or experiment.deleted:
        return
    experiment_id, ended = experiment.id, to_milliseconds(run.ended)

    def end_all(condition: str, state: StepState) -> list[str]:
        # All are searched before any is changed: a change would shift the pages.
        found = [run["info"]["run_id"] for run in rest.search_runs(experiment_id, condition)]
        for run_id in found:
            rest.post("runs/update", {"run_id": run_id, "status": str(state), "end_time": ended})
        return found

    for parent in end_all(parent_filter(run.dag_id, run.run_id), run.state):
        running = "attributes.status = 'RUNNING'"
        for sweep in end_all(f"{nested_in(parent)} AND tags.`zen.kind` = 'sweep'", run.state):
            end_all(f"{nested_in(sweep)} AND {running}", StepState.KILLED)
        end_all(f"{nested_in(parent)} AND {running}", StepState.KILLED)


def _record_failure(records: StepRunRecords, run: StepRunId, error: Exception) -> None:
    """Set a record aside after several failures, unless the server, the store or permissions are at fault."""
    log.warning("%s could not be delivered to MLflow: %s", run, error)
    is_permanent = error.is_client_error if isinstance(error, MlflowRejected) else isinstance(error, KeyError)
    if is_permanent and records.record_rejection(run, str(error)):
        log.warning("%s is set aside until `airflow zen lineage sync` is called: %s", run, error)
