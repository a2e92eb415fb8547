"""The stacks of this process, opened by the first request that needs them, and the step runs in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from airflow_zen.artifacts.named_artifacts import VersionIndex
from airflow_zen.config.settings import Settings, all_settings, open_stack, tracking_server
from airflow_zen.errors import UNREADABLE, ArtifactNotFound, ZenError
from airflow_zen.runs.records import dag_run_folder
from airflow_zen.runs.step_run import StepRun
from airflow_zen.transports.base import quote_key_part
from airflow_zen.transports.timeouts import Timeouts
from airflow_zen.ui.documents import DocumentCache, parse_document

if TYPE_CHECKING:
    from airflow_zen.artifacts.folder import Manifest
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.lineage.mlflow.rest import MlflowRest
    from airflow_zen.stack import Stack
    from airflow_zen.transports.base import ObjectInfo

_RECORD = re.compile(r"/steps/([^/]+)/(-?\d+)\.(\d+)\.json$")
# Seconds. A page without links to MLflow is better than one that waits for it.
_MLFLOW_TIMEOUTS = Timeouts(connect=1.0, read=3.0, answer=4.0)
_MLFLOW_RETRY_AFTER = 30.0


class OpenedStack:
    """A stack with its settings, the documents of its store, and its MLflow."""

    def __init__(self, settings: Settings, documents: DocumentCache) -> None:
        self.settings = settings
        self.documents = documents

    @cached_property
    def stack(self) -> Stack:
        """The stack, without a recorder of lineage."""
        return open_stack(self.settings, lineage=False)

    @cached_property
    def mlflow(self) -> MlflowRest | None:
        """The client of its MLflow; None where none is configured, or its connection cannot be used."""
        try:
            server = tracking_server(self.settings)
        except ZenError:
            return None
        if server is None:
            return None
        from airflow_zen.lineage.mlflow.rest import MlflowRest

        return MlflowRest(server, _MLFLOW_TIMEOUTS, retry_after=_MLFLOW_RETRY_AFTER)

    @cached_property
    def names(self) -> VersionIndex:
        """The versions of named artifacts; each version is read from the store once."""
        return VersionIndex(self.stack.store, self._read)

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """Return an artifact's manifest, which is read from the store once; an artifact that was deleted may still have one."""
        return self.stack.store.manifest(ref, self._read)

    def dag_run(self, dag_id: str, run_id: str, task_id: str = "") -> DagRunRecords:
        """Return the step runs of a DAG run, or of one of its tasks."""
        return DagRunRecords(self, dag_id, run_id, task_id)

    def read_records(self, objects: Sequence[ObjectInfo]) -> list[StepRun]:
        """Read records of step runs, without those that were deleted or are damaged."""
        texts = self.documents.read_all(self.stack.store.transport, objects)
        return [run for text in texts if text is not None and (run := _decode_record(text))]

    def _read(self, key: str) -> bytes:
        return self.documents.read(self.stack.store.transport, key)


class DagRunRecords:
    """The records of the step runs of a DAG run, or of one of its tasks, as they are when they are first asked for.

    They are listed once, and each is read once.
    """

    def __init__(self, opened: OpenedStack, dag_id: str, run_id: str, task_id: str = "") -> None:
        self.dag_id, self.run_id, self.task_id = dag_id, run_id, task_id
        self._opened = opened

    @cached_property
    def latest(self) -> list[StepRun]:
        """The latest try of each task instance."""
        latest: dict[tuple[str, int], _Record] = {}
        for each in self._records:
            if each.number >= latest.get(each.instance, each).number:
                latest[each.instance] = each
        return self._opened.read_records([each.found for each in latest.values()])

    def tries(self, task_id: str, map_index: int) -> list[StepRun]:
        """Read all tries of one task instance, the earliest first."""
        wanted = (quote_key_part(task_id), map_index)
        found = [each for each in self._records if each.instance == wanted]
        return self._opened.read_records([each.found for each in sorted(found, key=lambda each: each.number)])

    @cached_property
    def _records(self) -> list[_Record]:
        folder = f"{dag_run_folder(self.dag_id, self.run_id)}/steps"
        prefix = f"{folder}/{quote_key_part(self.task_id)}" if self.task_id else folder
        objects = self._opened.stack.store.transport.list_objects(prefix)
        return [
            _Record((name[1], int(name[2])), int(name[3]), each)
            for each in objects
            if (name := _RECORD.search(each.key))
        ]


class _Record(NamedTuple):
    """Where the record of a step run is: `instance` is the task, as keys name it, and the map index; `number` that of the try."""

    instance: tuple[str, int]
    number: int
    found: ObjectInfo


class StackList:
    """The stacks of this process; safe to use from several threads."""

    def __init__(self) -> None:
        self._documents = DocumentCache()
        self._opened: dict[Settings, OpenedStack] = {}
        self._lock = Lock()

    def get(self, name: str = "") -> OpenedStack:
        """Return a stack by its name, by default the active one. Raises `SettingsError` for an unknown name."""
        return self._open(Settings.read(name or None))

    def of_run(self, dag_id: str, run_id: str) -> OpenedStack:
        """Return the stack that has step runs of a DAG run, else the active one."""
        for opened in self._all():
            if opened.stack.records.has_dag_run(dag_id, run_id):
                return opened
        return self.get()

    def of_dag(self, dag_id: str) -> OpenedStack | None:
        """Return the stack that has step runs of a DAG; None where none has."""
        for opened in self._all():
            if opened.stack.store.transport.first_key(f"runs/{quote_key_part(dag_id)}"):
                return opened
        return None

    def _all(self) -> Iterator[OpenedStack]:
        """Yield the stacks, the active one first, and of several with one artifact root only the first."""
        roots = set()
        for settings in (Settings.read(), *all_settings()):
            if settings.artifact_root not in roots:
                roots.add(settings.artifact_root)
                yield self._open(settings)

    def _open(self, settings: Settings) -> OpenedStack:
        with self._lock:
            return self._opened.setdefault(settings, OpenedStack(settings, self._documents))


def _decode_record(text: bytes) -> StepRun | None:
    try:
        return StepRun.from_json(parse_document(text))
    except (ArtifactNotFound, *UNREADABLE):
        return None


# One list for all requests of this process, so that stores stay open.
stacks = StackList()
