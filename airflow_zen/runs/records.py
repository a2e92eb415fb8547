"""Step run records in the store: the source of truth for lineage; MLflow is its projection."""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING

import msgspec

from airflow_zen.errors import UNREADABLE, ArtifactCorrupt, ArtifactNotFound
from airflow_zen.json_records import convert_record, decode_record
from airflow_zen.runs.redaction import DEFAULT_REDACTOR, Redactor
from airflow_zen.runs.step_run import FinishedDagRun, StepRun, StepRunId, SuspendedRun
from airflow_zen.transports.base import ObjectInfo, Transport, quote_key_part

if TYPE_CHECKING:
    from airflow_zen.artifacts.leases import StoreLock

log = logging.getLogger("airflow_zen.runs")

_MAX_REASON = 300

_UNDELIVERED = "undelivered"
_RECORD_NAME = r"/(-?\d+)\.(\d+)\.json$"
_MARKER = rf"{_UNDELIVERED}/([^/]+/[^/]+)/([^/]+/-?\d+\.\d+\.json)"
_REFUSED = "refused"
_ENDED = "ended"
_SUSPENDED = "suspended"
_DELIVERY_LOCK = "undelivered.turn.json"
_READER_THREADS = 16

# A record that MLflow has refused this often is not sent again until someone asks for it.
_MAX_REJECTIONS = 3


class StepRunRecords:
    """Keep one JSON document per step run: `runs/<dag>/<run>/steps/<task>/<map index>.<try>.json`.

    A record that MLflow does not have yet has a marker under `undelivered/`, which contains the record's key. So the
    undelivered records are found without reading all of them. `redactor` removes secrets from what is written.
    """

    def __init__(self, transport: Transport, redactor: Redactor = DEFAULT_REDACTOR) -> None:
        self._transport = transport
        self._redactor = redactor

    def put(self, run: StepRun, delivered: bool) -> None:
        """Write the record of a finished run: one request, two where it is not delivered."""
        key, document = record_key(run.id), self._redactor.step_run(run).to_json()
        self._transport.write(key, json.dumps(document, indent=1, default=str).encode())
        if not delivered:
            self._transport.write(_marker_key(run.id), key.encode())

    def get(self, run: StepRunId) -> StepRun:
        """Read one record. Raises `ArtifactNotFound` when there is none, `ArtifactCorrupt` for one that cannot be read."""
        return self._read(record_key(run))

    def exists(self, run: StepRunId) -> bool:
        """Whether there is a record."""
        return self._transport.exists(record_key(run))

    def read_dag_run(self, dag_id: str, run_id: str) -> Iterator[StepRun]:
        """Read all records of a DAG run, in the text order of task, map index and try; log those that cannot be read."""
        keys = list(self._transport.list(f"{dag_run_folder(dag_id, run_id)}/steps"))
        with ThreadPoolExecutor(_READER_THREADS) as pool:
            yield from filter(None, pool.map(self._read_if_readable, keys))

    def latest_dag_run(self, dag_id: str) -> str | None:
        """Return the id of the run of a DAG whose record is the newest; None where no run has a record."""
        runs = sorted(list_step_records(self._transport, dag_id).values(), key=newest_record_time, reverse=True)
        readable = filter(None, (self._read_if_readable(record.key) for records in runs for record in records))
        return next((run.id.run_id for run in readable), None)

    def latest_try(self, dag_id: str, run_id: str, task_id: str, map_index: int | None = None) -> StepRun | None:
        """Read the record of a task's latest try, by default of any map index; None where there is no record."""
        found = self._transport.list(f"{dag_run_folder(dag_id, run_id)}/steps/{quote_key_part(task_id)}")
        names = {key: name for key in found if (name := re.search(_RECORD_NAME, key))}
        tries = {key: int(name[2]) for key, name in names.items() if map_index in (None, int(name[1]))}
        return self._read(max(tries, key=tries.__getitem__)) if tries else None

    def latest_tries(self, dag_id: str, run_id: str, task_id: str) -> dict[int, StepRun]:
        """Read the records of the latest tries of a mapped task, by map index; log those that cannot be read."""
        folder = f"{dag_run_folder(dag_id, run_id)}/steps/{quote_key_part(task_id)}"
        names = [
            (int(name[1]), int(name[2]), key)
            for key in self._transport.list(folder)
            if (name := re.search(_RECORD_NAME, key))
        ]
        latest = {index: key for index, _, key in sorted(names)}
        with ThreadPoolExecutor(_READER_THREADS) as pool:
            runs = zip(latest, pool.map(self._read_if_readable, latest.values()), strict=True)
            return {index: run for index, run in runs if run is not None}

    def has_dag_run(self, dag_id: str, run_id: str) -> bool:
        """Whether the store has anything of a DAG run."""
        return self._transport.first_key(dag_run_folder(dag_id, run_id)) is not None

    def undelivered_markers(self) -> list[str]:
        """List the markers of the undelivered records; one request for each 1000."""
        return [key for key in self._transport.list(_UNDELIVERED) if re.fullmatch(_MARKER, key)]

    def undelivered(self, markers: Iterable[str] | None = None) -> Iterator[StepRun]:
        """Read the undelivered records, or those of some markers; one that cannot be read is set aside."""
        for marker in self.undelivered_markers() if markers is None else markers:
            record = _record_of_marker(marker)
            try:
                run = self._read(record)
            except ArtifactNotFound:
                continue
            except ArtifactCorrupt as error:
                self._set_aside(marker, record, error)
            else:
                yield run

    def has_undelivered(self, dag_id: str, run_id: str) -> bool:
        """Whether any step run of a DAG run is undelivered."""
        return self._transport.first_key(dag_run_folder(dag_id, run_id, _UNDELIVERED)) is not None

    def mark_delivered(self, run: StepRunId) -> None:
        """Delete the markers of a record."""
        self._transport.delete([_marker_key(run), _marker_key(run, _REFUSED)])

    def record_rejection(self, run: StepRunId, reason: str) -> bool:
        """Record that MLflow refused a record. After the third time it is set aside; return whether it was."""
        try:
            times = int(json.loads(self._transport.read(_marker_key(run, _REFUSED)))["times"]) + 1
        except (ArtifactNotFound, *UNREADABLE):
            times = 1
        note = {"record": record_key(run), "times": times, "reason": reason}
        self._transport.write(_marker_key(run, _REFUSED), json.dumps(note, ensure_ascii=False, indent=1).encode())
        if times >= _MAX_REJECTIONS:
            self._transport.delete([_marker_key(run)])
        return times >= _MAX_REJECTIONS

    def requeue_rejected(self) -> None:
        """Mark the records that were set aside as undelivered again."""
        for key in list(self._transport.list(_REFUSED)):
            with suppress(ArtifactNotFound, *UNREADABLE):
                record = json.loads(self._transport.read(key))["record"]
                self._transport.write(_UNDELIVERED + key.removeprefix(_REFUSED), record.encode())

    def put_finished_dag_run(self, run: FinishedDagRun) -> None:
        """Store the end of a DAG run until MLflow shows it."""
        self._transport.write(_ended_key(run), msgspec.json.encode(run))

    def finished_dag_runs(self) -> Iterator[FinishedDagRun]:
        """Read the DAG runs whose end MLflow does not show yet."""
        for key in list(self._transport.list(_ENDED)):
            try:
                yield decode_record(self._transport.read(key), FinishedDagRun)
            except ArtifactNotFound:
                continue
            except UNREADABLE as error:
                # The scheduler finds it again in Airflow's database, because MLflow shows the DAG run as running.
                log.warning("%s/%s cannot be read, and is deleted: %s", self._transport.root, key, error)
                self._transport.delete([key])

    def delete_finished_dag_run(self, run: FinishedDagRun) -> None:
        """Delete the stored end of a DAG run, which MLflow shows now."""
        self._transport.delete([_ended_key(run)])

    def put_suspended(self, suspended: SuspendedRun) -> None:
        """Store a run that continues in another process, until it has ended."""
        run = self._redactor.step_run(suspended.run)
        document = {
            "run": run.to_json(),
            "lineage": dict(suspended.lineage),
            "lease": msgspec.to_builtins(suspended.lease),
        }
        self._transport.write(_marker_key(run.id, _SUSPENDED), json.dumps(document, default=str).encode())

    def get_suspended(self, run: StepRunId) -> SuspendedRun | None:
        """Read a suspended run; None where there is none, or it cannot be read."""
        return self._read_suspended(_marker_key(run, _SUSPENDED))

    def suspended(self, instance: StepRunId | None = None) -> Iterator[SuspendedRun]:
        """Read the suspended runs of a task instance, by default all."""
        folder = _marker_key(instance, _SUSPENDED).rpartition("/")[0] if instance else _SUSPENDED
        for key in list(self._transport.list(folder)):
            found = self._read_suspended(key)
            if found and (instance is None or found.run.id.task_instance == instance.task_instance):
                yield found

    def delete_suspended(self, run: StepRunId) -> None:
        """Delete what was stored of a suspended run."""
        self._transport.delete([_marker_key(run, _SUSPENDED)])

    def _read_suspended(self, key: str) -> SuspendedRun | None:
        from airflow_zen.artifacts.leases import SuspendedLease

        try:
            document = json.loads(self._transport.read(key))
            lease = convert_record(document["lease"], SuspendedLease) if document["lease"] else None
            return SuspendedRun(StepRun.from_json(document["run"]), document["lineage"], lease)
        except ArtifactNotFound:
            return None
        except UNREADABLE as error:
            log.warning("%s/%s cannot be read, and is deleted: %s", self._transport.root, key, error)
            self._transport.delete([key])
            return None

    def delivery_lock(self, clock: Callable[[], float]) -> AbstractContextManager[StoreLock | None]:
        """Take the lock on delivery, so that two processes do not create the same run twice; see `try_lock`."""
        from airflow_zen.artifacts.leases import try_lock

        return try_lock(self._transport, _DELIVERY_LOCK, clock)

    def _set_aside(self, marker: str, record: str, error: Exception) -> None:
        """Take a record that cannot be read out of the delivery; `requeue_rejected` puts it back."""
        log.warning("%s Its delivery is set aside until `airflow zen lineage sync`.", error)
        note = {"record": record, "times": _MAX_REJECTIONS, "reason": str(error)}
        self._transport.write(_REFUSED + marker.removeprefix(_UNDELIVERED), json.dumps(note, indent=1).encode())
        self._transport.delete([marker])

    def _read_if_readable(self, key: str) -> StepRun | None:
        try:
            return self._read(key)
        except ArtifactCorrupt as error:
            log.warning("%s It is left out.", error)
            return None

    def _read(self, key: str) -> StepRun:
        text = self._transport.read(key)
        try:
            return StepRun.from_json(json.loads(text))
        except UNREADABLE as error:
            raise ArtifactCorrupt(
                f"{self._transport.root}/{key} cannot be read: {str(error)[:_MAX_REASON]}."
            ) from error


def list_step_records(transport: Transport, dag_id: str | None = None) -> dict[tuple[str, str], list[ObjectInfo]]:
    """List the step run records of one DAG, or of all, by DAG and run as their keys write them."""
    found: dict[tuple[str, str], list[ObjectInfo]] = defaultdict(list)
    for each in transport.list_objects(f"runs/{quote_key_part(dag_id)}" if dag_id else "runs"):
        parts = each.key.split("/")
        if parts[3:4] == ["steps"]:
            found[parts[1], parts[2]].append(each)
    return found


def newest_record_time(records: Iterable[ObjectInfo]) -> float:
    """Return when the newest of these records was written, in seconds since the epoch."""
    return max(record.modified for record in records)


def dag_run_folder(dag_id: str, run_id: str, kind: str = "runs") -> str:
    """Return the folder of a DAG run in the store."""
    return f"{kind}/{quote_key_part(dag_id)}/{quote_key_part(run_id)}"


def record_key(run: StepRunId) -> str:
    """Return the key of a run's record in the store."""
    return f"{dag_run_folder(run.dag_id, run.run_id)}/steps/{_record_name(run)}"


def _marker_key(run: StepRunId, kind: str = _UNDELIVERED) -> str:
    return f"{dag_run_folder(run.dag_id, run.run_id, kind)}/{_record_name(run)}"


def _record_name(run: StepRunId) -> str:
    return f"{quote_key_part(run.task_id)}/{run.map_index}.{run.try_number}.json"


def _record_of_marker(marker: str) -> str:
    return re.sub(_MARKER, r"runs/\1/steps/\2", marker)


def _ended_key(run: FinishedDagRun) -> str:
    return f"{dag_run_folder(run.dag_id, run.run_id, _ENDED)}.json"
