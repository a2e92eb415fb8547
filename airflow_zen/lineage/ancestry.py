"""Queries for the producers, readers and ancestry of artifacts, over MLflow or step run records."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from airflow_zen.errors import ArtifactNotFound, LineageNotFound
from airflow_zen.lineage.found_runs import Ancestry, FoundArtifact, FoundRun, FoundRuns, Relatives
from airflow_zen.lineage.mlflow.dag_runs import find_experiment_ids, tags_to_dict
from airflow_zen.lineage.mlflow.encoding import short_digest
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.lineage.mlflow.tags import quote_filter_value
from airflow_zen.runs.records import list_step_records
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState
from airflow_zen.transports.base import map_in_parallel

if TYPE_CHECKING:
    from airflow_zen.artifacts.named_artifacts import VersionIndex
    from airflow_zen.artifacts.ref import ArtifactRef, ArtifactVersion
    from airflow_zen.runs.records import StepRunRecords
    from airflow_zen.transports.base import Transport

Server = MlflowRest | TrackingServer | str
"""An MLflow server; an empty text is that of `MLFLOW_TRACKING_URI`, which is set inside a step."""


def runs_that_read(digest: str, server: Server = "") -> FoundRuns:
    """Return the runs of all DAGs that read exactly this content, latest first."""
    return _search_runs("inputs", digest, _rest_of(server))


def runs_that_made(digest: str, server: Server = "") -> FoundRuns:
    """Return the runs that computed exactly this content, without those that reused it; latest first."""
    return FoundRuns(run for run in _search_runs("outputs", digest, _rest_of(server)) if not run.cached)


def run_of_model(model: str, server: Server = "") -> FoundRun:
    """Return the run that made a model: `models:/name/3`, `models:/name@alias` or `models:/<model id>`.

    Its `inputs` are the data that the model was made from. Raises `LineageNotFound`.
    """
    rest = _rest_of(server)
    name = model.removeprefix("models:/")
    if "@" in name:
        name, _, alias = name.partition("@")
        found = rest.get("registered-models/alias", {"name": name, "alias": alias})["model_version"]
    elif "/" in name:
        name, _, version = name.rpartition("/")
        found = rest.get("model-versions/get", {"name": name, "version": version})["model_version"]
    else:
        info = rest.get(f"logged-models/{name}")["model"]["info"]
        found = {"run_id": info.get("source_run_id")}
    if not found.get("run_id"):
        raise LineageNotFound(
            f"MLflow has no run that made {model!r}. It was registered by hand, or its run was deleted."
        )
    return _run_from_mlflow(rest.get("runs/get", {"run_id": found["run_id"]})["run"])


def ancestry_of(model: str, server: Server = "") -> Ancestry:
    """Return what a model was made from, across all DAGs, with one producer for each input of each run.

    The producer ended before the reader started. If several runs made the same bytes, a run that used the same artifact
    name takes precedence, then one in the reader's own DAG run, then the latest.
    """
    rest = _rest_of(server)
    return _walk_ancestry(run_of_model(model, rest), lambda digest: runs_that_made(digest, rest))


def ancestry_of_content(digest: str, server: Server = "", name: str = "") -> Ancestry:
    """Return what an artifact was made from, as `ancestry_of` does for a model.

    Start from the latest run that made this content; a run that made it under `name` takes precedence. digest: 16
    characters or more. Raises `LineageNotFound` if no run is known that made it.
    """
    rest = _rest_of(server)
    producers = runs_that_made(digest, rest)
    if not producers:
        raise LineageNotFound(f"MLflow has no run that made the artifact {short_digest(digest)}.")
    return _walk_ancestry(_latest_producer(producers, name), lambda inner: runs_that_made(inner, rest))


def ancestry_from_records(digest: str, transport: Transport, name: str = "") -> Ancestry:
    """Return what `ancestry_of_content` returns, from the records of all DAG runs; every record is read.

    Raises `LineageNotFound` where no record of its run exists.
    """
    made: dict[str, list[FoundRun]] = defaultdict(list)
    keys = [each.key for records in list_step_records(transport).values() for each in records]
    for run in map_in_parallel(lambda key: _read_record(transport, key), keys):
        if run and not run.is_hit and run.state is not StepState.RUNNING:
            found = _run_from_record(run, str(run.id))
            for artifact in found.outputs:
                made[artifact.digest].append(found)
    producers = made[short_digest(digest)]
    if not producers:
        raise LineageNotFound(f"No step run record has the producer of the artifact {short_digest(digest)}.")
    return _walk_ancestry(_latest_producer(producers, name), lambda inner: made[inner])


def find_relatives(
    version: ArtifactVersion, names: VersionIndex, records: StepRunRecords, server: Server | None
) -> Relatives:
    """Find the runs upstream through step run records and versions, and the readers in the DAG run and in MLflow.

    Raises `LineageError` where MLflow is unavailable.
    """
    digest, (dag_id, _, run_id) = version.ref.digest, version.dag_run.partition("/")
    found = runs_that_read(digest, server) if server else []
    known = {(run.dag_id, run.dag_run_id, run.task_id) for run in found}
    for run in records.read_dag_run(dag_id, run_id) if run_id else ():
        is_reader = any(ref.digest == digest for ref in run.inputs.values())
        if is_reader and (run.id.dag_id, run.id.run_id, run.id.task_id) not in known:
            found.append(_run_from_record(run))
    return Relatives(tuple(map(_run_from_record, _upstream_runs(version, names, records))), tuple(found))


def _latest_producer(made: Collection[FoundRun], name: str) -> FoundRun:
    return max(made, key=lambda run: (any(output.name == name for output in run.outputs), run.started))


def _walk_ancestry(last: FoundRun, producers: Callable[[str], list[FoundRun]]) -> Ancestry:
    """Walk from a run to all that it was made from; `producers` returns the runs that made a content."""
    runs: dict[str, FoundRun] = {}
    raw: dict[FoundArtifact, None] = {}
    makers: dict[tuple[str, FoundArtifact], str] = {}
    todo = [last]
    for run in todo:
        if run.run_id in runs:
            continue
        runs[run.run_id] = run
        for artifact in run.inputs:
            producer = _choose_producer(artifact, run, producers(artifact.digest))
            if producer is None or not producer.inputs:
                raw[artifact] = None
            if producer is not None:
                makers[run.run_id, artifact] = producer.run_id
                todo.append(producer)
    return Ancestry(tuple(runs.values()), tuple(raw), makers)


def _choose_producer(artifact: FoundArtifact, reader: FoundRun, made: list[FoundRun]) -> FoundRun | None:
    """Return the run that made an input of the reader; None if there is none. No run becomes its own ancestor.

    The clocks of hosts differ. A run of the reader's own DAG run that made the artifact under the same name therefore
    only has to have started before the reader.
    """

    def rank(run: FoundRun) -> tuple[bool, bool, bool, float]:
        return ended_before(run), artifact in run.outputs, is_here(run), run.started

    def ended_before(run: FoundRun) -> bool:
        return run.ended is not None and run.ended <= reader.started

    def is_here(run: FoundRun) -> bool:
        return (run.dag_id, run.dag_run_id) == (reader.dag_id, reader.dag_run_id)

    def is_maker(run: FoundRun) -> bool:
        return ended_before(run) or (is_here(run) and artifact in run.outputs and run.started < reader.started)

    return max((run for run in made if run.run_id != reader.run_id and is_maker(run)), key=rank, default=None)


def _rest_of(server: Server) -> MlflowRest:
    if isinstance(server, MlflowRest):
        return server
    if server:
        return MlflowRest(server if isinstance(server, TrackingServer) else TrackingServer(server))
    if not (uri := os.environ.get("MLFLOW_TRACKING_URI")):
        raise LineageNotFound("No MLflow server is given. Pass its address, or set MLFLOW_TRACKING_URI.")
    return MlflowRest(TrackingServer.from_environment(uri, os.environ))


def _search_runs(direction: Literal["inputs", "outputs"], digest: str, rest: MlflowRest) -> FoundRuns:
    """Search the packed tags, and the datasets of runs whose artifacts did not fit into the tag; latest first."""
    short = short_digest(digest)
    experiments = [*find_experiment_ids(rest)]
    conditions = (
        f"tags.`zen.{direction}` LIKE {quote_filter_value(f'%@{short}|%')}",
        f"tags.`zen.io_truncated` = 'true' AND dataset.digest = {quote_filter_value(short)}",
    )
    found: dict[str, FoundRun] = {}
    for condition in conditions if experiments else ():
        for run in map(_run_from_mlflow, rest.search_runs(experiments, condition)):
            if any(artifact.digest == short for artifact in getattr(run, direction)):
                found[run.run_id] = run
    return FoundRuns(sorted(found.values(), key=lambda run: run.started, reverse=True))


def _run_from_mlflow(run: Mapping[str, Any]) -> FoundRun:
    info, tags = run["info"], tags_to_dict(run["data"])
    return FoundRun(
        run_id=info["run_id"],
        experiment_id=str(info["experiment_id"]),
        name=info.get("run_name", ""),
        dag_id=tags.get("zen.dag_id", ""),
        dag_run_id=tags.get("zen.run_id", ""),
        task_id=tags.get("zen.task_id", ""),
        state=info.get("status", ""),
        started=int(info.get("start_time", 0)) / 1000,
        ended=int(info["end_time"]) / 1000 if info.get("end_time") else None,
        cached=tags.get("zen.cache") == "hit",
        inputs=_artifacts_from_tags(run, tags, "input"),
        outputs=_artifacts_from_tags(run, tags, "output"),
    )


def _artifacts_from_tags(run: Mapping[str, Any], tags: Mapping[str, str], context: str) -> tuple[FoundArtifact, ...]:
    """Return the artifacts in the packed tag, and those among the datasets where the tag was too short."""
    packed = [item.rpartition("@") for item in tags.get(f"zen.{context}s", "").split("|") if "@" in item]
    found = {FoundArtifact(name, digest): None for name, _, digest in packed}
    if tags.get("zen.io_truncated"):
        for entry in run.get("inputs", {}).get("dataset_inputs", []):
            if tags_to_dict(entry).get("mlflow.data.context") == context:
                found[FoundArtifact(entry["dataset"]["name"], entry["dataset"]["digest"])] = None
    return tuple(found)


def _read_record(transport: Transport, key: str) -> StepRun | None:
    try:
        return StepRun.from_json(json.loads(transport.read(key)))
    except (ArtifactNotFound, ValueError, KeyError, TypeError):
        return None


def _run_from_record(run: StepRun, run_id: str = "") -> FoundRun:
    """Return a record as a `FoundRun`, without the id of its MLflow run."""
    return FoundRun(
        run_id=run_id,
        experiment_id="",
        name=run.id.task_id,
        dag_id=run.id.dag_id,
        dag_run_id=run.id.run_id,
        task_id=run.id.task_id,
        state=str(run.state),
        started=run.started,
        ended=run.ended,
        cached=run.is_hit,
        inputs=tuple(FoundArtifact(ref.name or path, short_digest(ref.digest)) for path, ref in run.inputs.items()),
        outputs=tuple(FoundArtifact(ref.name or name, short_digest(ref.digest)) for name, ref in run.outputs.items()),
    )


def _upstream_runs(version: ArtifactVersion, names: VersionIndex, records: StepRunRecords) -> Collection[StepRun]:
    """Return the run that made each artifact; the walk ends at artifacts whose producer is not known.

    A reused ref names its producer, else the version of the artifact's name does. An artifact without a version, such
    as those of mapped instances and of a list's elements, was made in the reader's own DAG run.
    """

    @cache
    def origins_in_dag_run(dag_id: str, run_id: str) -> Mapping[tuple[str, str], str]:
        runs = records.read_dag_run(dag_id, run_id)
        return {(ref.name, ref.digest): str(run.id) for run in runs for ref in run.outputs.values()}

    def origin_of(ref: ArtifactRef, reader: StepRun) -> str:
        if ref.origin:
            return ref.origin
        try:
            return names.get(ref.name, ref.digest).origin
        except ArtifactNotFound:
            return origins_in_dag_run(reader.id.dag_id, reader.id.run_id).get((ref.name, ref.digest), "")

    found: dict[StepRunId, StepRun] = {}
    todo = [version.origin]
    for origin in todo:
        run = _find_record(origin, records)
        if run and run.id not in found:
            found[run.id] = run
            todo += (origin_of(ref, run) for ref in run.inputs.values())
    return found.values()


def _find_record(origin: str, records: StepRunRecords) -> StepRun | None:
    try:
        return records.get(StepRunId.parse(origin)) if origin else None
    except ArtifactNotFound:
        return None
