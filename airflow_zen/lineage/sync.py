"""Send to MLflow what it has not got yet."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from airflow_zen.errors import ZenError
from airflow_zen.lineage.close import close_parent
from airflow_zen.lineage.ended import EndedDagRun
from airflow_zen.lineage.mlflow import MlflowRecorder
from airflow_zen.lineage.records import StepRunRecords
from airflow_zen.lineage.refusals import MlflowAway, MlflowRefused
from airflow_zen.lineage.step_run import StepRunId
from airflow_zen.lineage.turn import Turn
from airflow_zen.progress import Tell, counted, unheard

log = logging.getLogger("airflow_zen.lineage")

_MOST = 500


@dataclass(frozen=True)
class Delivery:
    """What a delivery did: the step runs that MLflow has now, and those still owed with the reason."""

    delivered: tuple[StepRunId, ...] = ()
    failed: tuple[tuple[StepRunId, str], ...] = ()


def settle(
    recorder: MlflowRecorder, records: StepRunRecords, clock: Callable[[], float], tell: Tell = unheard
) -> Delivery | None:
    """Deliver what is owed, at most 500 step runs, then close and draw the DAG runs that have ended.

    What killed steps left on this host is owed too. None where another process is about it. What fails stays owed.
    `tell` hears how far it is.
    """
    with records.delivery_turn(clock) as mine:
        if not mine:
            return None
        recorder.take_over()
        delivery = deliver(recorder, records, mine, tell)
        for run in counted(records.ended(), "Closing DAG runs in MLflow", tell):
            if not mine.lasts:
                break
            try:
                show_end(recorder, records, run)
            except MlflowAway as error:
                log.warning("The lineage of %s/%s is shown when MLflow is back: %s", run.dag_id, run.run_id, error)
                break
            except (ZenError, OSError) as error:
                log.warning("The lineage of %s/%s could not be shown: %s", run.dag_id, run.run_id, error)
        return delivery


def show_end(recorder: MlflowRecorder, records: StepRunRecords, run: EndedDagRun) -> None:
    """Close and draw one DAG run; raises `LineageError` when MLflow is away or refuses.

    While a step of it is owed its end stays in mind: it is drawn again with that step.
    """
    close_parent(recorder.rest, run)
    try:
        recorder.publish(run.dag_id, run.run_id, records)
    except (KeyError, ValueError) as error:
        log.warning("The lineage of %s/%s cannot be drawn: %r", run.dag_id, run.run_id, error, exc_info=error)
    if not records.owed(run.dag_id, run.run_id):
        records.forget_ended(run)


def deliver(
    recorder: MlflowRecorder, records: StepRunRecords, turn: Turn | None = None, tell: Tell = unheard
) -> Delivery:
    """Replay undelivered step run records into MLflow, and mark them delivered; at most 500, and while `turn` lasts.

    A record that MLflow has in part is completed; one that it has in full is left as it is. Stops at
    the first sign that the server is away; a record that it refuses does not hold up the others, and is
    set aside when it does so again and again.
    """
    delivered: list[StepRunId] = []
    failed: list[tuple[StepRunId, str]] = []
    markers = records.markers()
    for run in counted(records.undelivered(markers), "Delivering step runs", tell, len(markers)):
        if len(delivered) == _MOST or (turn and not turn.lasts):
            break
        try:
            recorder.replay(run)
        except MlflowAway as error:
            failed.append((run.id, str(error)))
            break
        except (ZenError, OSError, KeyError) as error:
            log.warning("%s could not be delivered to MLflow: %s", run.id, error)
            failed.append((run.id, str(error)))
            if _for_good(error) and records.refuse(run.id, str(error)):
                log.warning("%s is set aside until `airflow zen lineage sync` is called: %s", run.id, error)
            continue
        records.mark_delivered(run.id)
        delivered.append(run.id)
    return Delivery(tuple(delivered), tuple(failed))


def _for_good(error: Exception) -> bool:
    """Tell a fault of the record from one of the server, the store or our permissions, which may be mended."""
    if isinstance(error, MlflowRefused):
        return error.about_the_request
    return isinstance(error, KeyError)
