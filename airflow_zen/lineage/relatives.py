"""What an artifact was made from, and who read it, as step run records and MLflow tell."""

from __future__ import annotations

from dataclasses import dataclass, replace

from airflow_zen.artifacts.names import VersionIndex
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.artifacts.version import ArtifactVersion
from airflow_zen.errors import ArtifactNotFound
from airflow_zen.lineage.queries import FoundRun, Server, runs_that_read
from airflow_zen.lineage.recorded import run_from_record
from airflow_zen.lineage.records import StepRunRecords
from airflow_zen.lineage.step_run import StepRun, StepRunId


@dataclass(frozen=True)
class Relatives:
    """The step runs above an artifact, its maker first, and those that read it, in its own DAG run and as MLflow knows."""

    upstream: tuple[FoundRun, ...]
    downstream: tuple[FoundRun, ...]


def find_relatives(
    version: ArtifactVersion, names: VersionIndex, records: StepRunRecords, server: Server | None
) -> Relatives:
    """Walk up through the records of steps and the versions they read; look down in the DAG run and in MLflow.

    Raises `LineageError` where MLflow is away.
    """
    upstream = _upstream_runs(version, names, records)
    return Relatives(tuple(_without_mlflow_id(run) for run in upstream), tuple(_reader_runs(version, records, server)))


def _upstream_runs(version: ArtifactVersion, names: VersionIndex, records: StepRunRecords) -> list[StepRun]:
    """Find the run that made each artifact; one whose maker is not known ends the walk."""
    producers = _ProducerIndex(names, records)
    found: dict[StepRunId, StepRun] = {}
    todo = [version.origin]
    while todo:
        run = _find_record(todo.pop(0), records)
        if run is None or run.id in found:
            continue
        found[run.id] = run
        todo += filter(None, (producers.origin_of(ref, run) for ref in run.inputs.values()))
    return list(found.values())


class _ProducerIndex:
    """Know which step run made what was read: a reused ref says it, else the version of its name.

    What has no version of that name, as the instances of a mapped step and the elements of a list, was made in the
    reader's own DAG run; its records are read once.
    """

    def __init__(self, names: VersionIndex, records: StepRunRecords) -> None:
        self._names, self._records = names, records
        self._by_content: dict[tuple[str, str], dict[tuple[str, str], str]] = {}

    def origin_of(self, ref: ArtifactRef, reader: StepRun) -> str:
        if ref.origin:
            return ref.origin
        try:
            return self._names.get(ref.name, ref.digest).origin
        except ArtifactNotFound:
            return self._origins_in_dag_run(reader.id.dag_id, reader.id.run_id).get((ref.name, ref.digest), "")

    def _origins_in_dag_run(self, dag_id: str, run_id: str) -> dict[tuple[str, str], str]:
        if (dag_id, run_id) not in self._by_content:
            runs = self._records.read_dag_run(dag_id, run_id)
            made = {(ref.name, ref.digest): str(run.id) for run in runs for ref in run.outputs.values()}
            self._by_content[dag_id, run_id] = made
        return self._by_content[dag_id, run_id]


def _find_record(origin: str, records: StepRunRecords) -> StepRun | None:
    try:
        return records.get(StepRunId.parse(origin)) if origin else None
    except ArtifactNotFound:
        return None


def _reader_runs(version: ArtifactVersion, records: StepRunRecords, server: Server | None) -> list[FoundRun]:
    dag_id, _, run_id = version.dag_run.partition("/")
    here = list(records.read_dag_run(dag_id, run_id)) if run_id else []
    mine = [
        _without_mlflow_id(run) for run in here if any(ref.digest == version.ref.digest for ref in run.inputs.values())
    ]
    theirs = runs_that_read(version.ref.digest, server) if server else []
    known = {(run.dag_id, run.dag_run_id, run.task_id) for run in theirs}
    return [*theirs, *(run for run in mine if (run.dag_id, run.dag_run_id, run.task_id) not in known)]


def _without_mlflow_id(run: StepRun) -> FoundRun:
    """Tell a record without an id: it is no run of MLflow's."""
    return replace(run_from_record(run), run_id="")
