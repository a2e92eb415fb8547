"""Step run records in the store: the source of truth for lineage, whatever MLflow knows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress

from msgspec.structs import asdict

from airflow_zen.artifacts.leases import StoreLock, try_lock
from airflow_zen.errors import ArtifactNotFound
from airflow_zen.runs.step_run import FinishedDagRun, StepRun, StepRunId
from airflow_zen.transports.base import Transport, quote_key_part

_RUNS = "runs"
_UNDELIVERED = "undelivered"
_REFUSED = "refused"
_ENDED = "ended"
_DELIVERY_LOCK = "undelivered.turn.json"
_READER_THREADS = 16

# So often MLflow may refuse a record before it is set aside.
_MAX_REJECTIONS = 3


class StepRunRecords:
    """Keep one JSON document per step run: `runs/<dag>/<run>/steps/<task>/<map index>.<try>.json`.

    What the lineage server has not got yet has a marker under `undelivered/` that holds the record's
    key, so that it is found without a look at every record.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def put(self, run: StepRun, delivered: bool) -> None:
        """Write the record of a finished run; one request, two where it is not delivered."""
        key = record_key(run.id)
        self._transport.write(key, json.dumps(run.to_json(), indent=1, default=str).encode())
        if not delivered:
            self._transport.write(_marker_key(run.id), key.encode())

    def get(self, run: StepRunId) -> StepRun:
        """Read one record; raises `ArtifactNotFound` when there is none."""
        return self._read(record_key(run))

    def read_dag_run(self, dag_id: str, run_id: str) -> Iterator[StepRun]:
        """Read all records of a DAG run, in the order of task, map index and try as text."""
        keys = list(self._transport.list(f"{_RUNS}/{quote_key_part(dag_id)}/{quote_key_part(run_id)}/steps"))
        with ThreadPoolExecutor(_READER_THREADS) as pool:
            yield from pool.map(self._read, keys)

    def latest_try(self, dag_id: str, run_id: str, task_id: str) -> StepRun | None:
        """Read the record of a task's latest try in a DAG run, of any one where it is mapped; None where there is none."""
        keys = self._transport.list(
            f"{_RUNS}/{quote_key_part(dag_id)}/{quote_key_part(run_id)}/steps/{quote_key_part(task_id)}"
        )
        latest = max(keys, key=lambda key: int(key.rpartition("/")[2].split(".")[1]), default=None)
        return self._read(latest) if latest else None

    def undelivered_markers(self) -> list[str]:
        """List the markers of what the lineage server has not got yet; a request for each 1000."""
        return list(self._transport.list(_UNDELIVERED))

    def undelivered(self, markers: Iterable[str] | None = None) -> Iterator[StepRun]:
        """Read the records that the lineage server has not got yet, or those of some markers."""
        for marker in self.undelivered_markers() if markers is None else markers:
            with suppress(ArtifactNotFound):
                yield self._read(self._transport.read(marker).decode())

    def has_undelivered(self, dag_id: str, run_id: str) -> bool:
        """Tell whether any step run of a DAG run is undelivered."""
        return any(
            True for _ in self._transport.list(f"{_UNDELIVERED}/{quote_key_part(dag_id)}/{quote_key_part(run_id)}")
        )

    def mark_delivered(self, run: StepRunId) -> None:
        """Forget that a record was owed, or refused."""
        self._transport.delete([_marker_key(run), _marker_key(run, _REFUSED)])

    def record_rejection(self, run: StepRunId, reason: str) -> bool:
        """Note why the lineage server refuses a record; the third time it is owed no more, but set aside: tell whether."""
        try:
            times = int(json.loads(self._transport.read(_marker_key(run, _REFUSED)))["times"]) + 1
        except ArtifactNotFound:
            times = 1
        note = {"record": record_key(run), "times": times, "reason": reason}
        self._transport.write(_marker_key(run, _REFUSED), json.dumps(note, ensure_ascii=False, indent=1).encode())
        if times >= _MAX_REJECTIONS:
            self._transport.delete([_marker_key(run)])
        return times >= _MAX_REJECTIONS

    def requeue_rejected(self) -> None:
        """Owe again what was set aside."""
        for key in list(self._transport.list(_REFUSED)):
            with suppress(ArtifactNotFound):
                record = json.loads(self._transport.read(key))["record"]
                self._transport.write(_UNDELIVERED + key.removeprefix(_REFUSED), record.encode())

    def has_dag_run(self, dag_id: str, run_id: str) -> bool:
        """Tell whether a DAG run has left anything here."""
        return self._transport.first_key(f"{_RUNS}/{quote_key_part(dag_id)}/{quote_key_part(run_id)}") is not None

    def put_finished_dag_run(self, run: FinishedDagRun) -> None:
        """Keep in mind that a DAG run has ended, until MLflow shows it so."""
        self._transport.write(_ended_key(run), json.dumps(asdict(run)).encode())

    def finished_dag_runs(self) -> Iterator[FinishedDagRun]:
        """Read the DAG runs whose end MLflow does not show yet."""
        for key in list(self._transport.list(_ENDED)):
            with suppress(ArtifactNotFound):
                yield FinishedDagRun.from_json(json.loads(self._transport.read(key)))

    def delete_finished_dag_run(self, run: FinishedDagRun) -> None:
        """Forget the end of a DAG run, which MLflow shows now."""
        self._transport.delete([_ended_key(run)])

    def delivery_lock(self, clock: Callable[[], float]) -> AbstractContextManager[StoreLock | None]:
        """Take the turn to deliver, so that two processes do not make the same run twice; see `try_lock`."""
        return try_lock(self._transport, _DELIVERY_LOCK, clock)

    def _read(self, key: str) -> StepRun:
        return StepRun.from_json(json.loads(self._transport.read(key)))


def record_key(run: StepRunId) -> str:
    """Give the key of a run's record in the store."""
    return f"{_RUNS}/{quote_key_part(run.dag_id)}/{quote_key_part(run.run_id)}/steps/{_record_name(run)}"


def _ended_key(run: FinishedDagRun) -> str:
    return f"{_ENDED}/{quote_key_part(run.dag_id)}/{quote_key_part(run.run_id)}.json"


def _marker_key(run: StepRunId, kind: str = _UNDELIVERED) -> str:
    return f"{kind}/{quote_key_part(run.dag_id)}/{quote_key_part(run.run_id)}/{_record_name(run)}"


def _record_name(run: StepRunId) -> str:
    return f"{quote_key_part(run.task_id)}/{run.map_index}.{run.try_number}.json"
