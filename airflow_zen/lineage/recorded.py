"""Ask the step run records where data came from, where MLflow is not there to ask."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from airflow_zen.artifacts.transport import Transport
from airflow_zen.errors import ArtifactNotFound, LineageNotFound
from airflow_zen.lineage.limits import short_digest
from airflow_zen.lineage.queries import Ancestry, FoundArtifact, FoundRun, walk_ancestry
from airflow_zen.lineage.step_run import StepRun, StepState

_READER_THREADS = 16


def ancestry_from_records(digest: str, transport: Transport) -> Ancestry:
    """Walk from an artifact back to the raw data through the records of all DAG runs, each of which is read.

    `digest`: 16 characters or more. Raises `LineageNotFound` where no record says who made it.
    """
    made: dict[str, list[FoundRun]] = defaultdict(list)
    for run in _read_all_records(transport):
        if run.cache != "hit" and run.state is StepState.FINISHED:
            found = run_from_record(run)
            for artifact in found.outputs:
                made[artifact.digest].append(found)
    producers = sorted(made[short_digest(digest)], key=lambda run: run.started)
    if not producers:
        raise LineageNotFound(f"No step run record says who made the artifact {short_digest(digest)}.")
    return walk_ancestry(producers[-1], lambda inner: made[inner])


def _read_all_records(transport: Transport) -> Iterator[StepRun]:
    keys = [key for key in transport.list("runs") if key.split("/")[3:4] == ["steps"]]
    with ThreadPoolExecutor(_READER_THREADS) as pool:
        yield from (run for run in pool.map(lambda key: _read_record(transport, key), keys) if run)


def _read_record(transport: Transport, key: str) -> StepRun | None:
    try:
        return StepRun.from_json(json.loads(transport.read(key)))
    except (ArtifactNotFound, ValueError, KeyError, TypeError):
        return None


def run_from_record(run: StepRun) -> FoundRun:
    """Tell a record as MLflow's runs are told; its id is the step run's."""
    return FoundRun(
        run_id=str(run.id),
        experiment_id="",
        name=run.id.task_id,
        dag_id=run.id.dag_id,
        dag_run_id=run.id.run_id,
        task_id=run.id.task_id,
        state=str(run.state),
        started=run.started,
        cached=run.cache == "hit",
        inputs=tuple(FoundArtifact(ref.name or path, short_digest(ref.digest)) for path, ref in run.inputs.items()),
        outputs=tuple(FoundArtifact(ref.name or name, short_digest(ref.digest)) for name, ref in run.outputs.items()),
    )
