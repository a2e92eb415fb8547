"""Ask MLflow where data came from and where it went; MLflow's own client can ask the same, see `docs/lineage.md`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import ArtifactNotFound, LineageNotFound
from airflow_zen.lineage.mlflow.dag_runs import tags_to_dict
from airflow_zen.lineage.mlflow.encoding import short_digest
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.lineage.mlflow.tags import EXPERIMENT_PREFIX, quote_filter_value
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState

if TYPE_CHECKING:
    from airflow_zen.artifacts.named_artifacts import VersionIndex
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.artifacts.version import ArtifactVersion
    from airflow_zen.runs.records import StepRunRecords
    from airflow_zen.transports.base import Transport

Server = MlflowRest | TrackingServer | str

_PER_PAGE = 100


@dataclass(frozen=True)
class FoundArtifact:
    """An artifact as runs name it; `digest` is the first 16 characters."""

    name: str
    digest: str


@dataclass(frozen=True)
class FoundRun:
    """A step run as MLflow has it; `started` in seconds since the epoch. A `cached` one reused its outputs."""

    run_id: str
    experiment_id: str
    name: str
    dag_id: str
    dag_run_id: str
    task_id: str
    state: str
    started: float
    cached: bool
    inputs: tuple[FoundArtifact, ...]
    outputs: tuple[FoundArtifact, ...]


@dataclass(frozen=True)
class Ancestry:
    """All that a model or an artifact was made from: the runs, latest first, and the raw artifacts they began with.

    Raw is what a run without inputs made, and what no run is known to have made.
    """

    runs: tuple[FoundRun, ...]
    raw: tuple[FoundArtifact, ...]


def runs_that_read(digest: str, server: Server) -> list[FoundRun]:
    """Find the runs that consumed exactly this content, in all DAGs, latest first."""
    return _search_runs_with_artifact("inputs", digest, _rest_of(server))


def runs_that_made(digest: str, server: Server) -> list[FoundRun]:
    """Find the runs that produced exactly this content themselves, and did not reuse it; latest first."""
    return [run for run in _search_runs_with_artifact("outputs", digest, _rest_of(server)) if not run.cached]


def run_of_model(model: str, server: Server) -> FoundRun:
    """Find the run that produced a model: `models:/name/3`, `models:/name@alias` or `models:/<model id>`.

    Its `inputs` are the data the model was made from. Raises `LineageNotFound`.
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
            f"MLflow knows no run that made {model!r}. It was registered by hand, or its run is gone."
        )
    return _run_from_mlflow(rest.get("runs/get", {"run_id": found["run_id"]})["run"])


def ancestry_of(model: str, server: Server) -> Ancestry:
    """Walk from a model back to the raw data, over all DAGs; at most one run for each artifact on the way.

    Of several runs that made the same bytes the walk takes the one under the name that was read, in the
    reader's own DAG run, or else the latest before it.
    """
    rest = _rest_of(server)
    return walk_ancestry(run_of_model(model, rest), lambda digest: runs_that_made(digest, rest))


def ancestry_of_content(digest: str, server: Server) -> Ancestry:
    """Walk from an artifact back to the raw data, as `ancestry_of` does from a model.

    `digest`: 16 characters or more. Raises `LineageNotFound` where no run is known to have made it.
    """
    rest = _rest_of(server)
    producers = runs_that_made(digest, rest)
    if not producers:
        raise LineageNotFound(f"MLflow knows no run that made the artifact {short_digest(digest)}.")
    return walk_ancestry(producers[0], lambda inner: runs_that_made(inner, rest))


def walk_ancestry(last: FoundRun, producers: Callable[[str], list[FoundRun]]) -> Ancestry:
    """Walk from a run to all that it was made from; `producers` gives the runs that made some content."""
    runs: dict[str, FoundRun] = {}
    raw: dict[FoundArtifact, None] = {}
    todo = [last]
    while todo:
        run = todo.pop(0)
        if run.run_id in runs:
            continue
        runs[run.run_id] = run
        for artifact in run.inputs:
            producer = _choose_producer(artifact, run, producers(artifact.digest))
            if producer is None or not producer.inputs:
                raw[artifact] = None
            if producer is not None:
                todo.append(producer)
    return Ancestry(tuple(runs.values()), tuple(raw))


def _choose_producer(artifact: FoundArtifact, reader: FoundRun, made: list[FoundRun]) -> FoundRun | None:
    producers = [run for run in made if run.run_id != reader.run_id]

    def rank(run: FoundRun) -> tuple[bool, bool, bool, float]:
        here = (run.dag_id, run.dag_run_id) == (reader.dag_id, reader.dag_run_id)
        return artifact in run.outputs, here, run.started <= reader.started, run.started

    return max(producers, key=rank, default=None)


def _rest_of(server: Server) -> MlflowRest:
    if isinstance(server, MlflowRest):
        return server
    return MlflowRest(server if isinstance(server, TrackingServer) else TrackingServer(server))


def _search_runs_with_artifact(direction: str, digest: str, rest: MlflowRest) -> list[FoundRun]:
    """Search the packed tags, and the datasets of runs whose list did not fit into its tag."""
    short = short_digest(digest)
    experiments = [*_search_experiments(rest)]
    conditions = (
        f"tags.`zen.{direction}` LIKE {quote_filter_value(f'%@{short}|%')}",
        f"tags.`zen.io_truncated` = 'true' AND dataset.digest = {quote_filter_value(short)}",
    )
    runs = [run for condition in conditions for run in _search_runs(rest, experiments, condition)]
    context = direction.removesuffix("s")
    found = {
        run["info"]["run_id"]: _run_from_mlflow(run) for run in runs if _has_artifact(run, direction, context, short)
    }
    return sorted(found.values(), key=lambda run: run.started, reverse=True)


def _has_artifact(run: Mapping[str, Any], direction: str, context: str, digest: str) -> bool:
    if f"@{digest}|" in tags_to_dict(run["data"]).get(f"zen.{direction}", ""):
        return True
    datasets = run.get("inputs", {}).get("dataset_inputs", [])
    return any(
        entry["dataset"]["digest"] == digest and tags_to_dict(entry).get("mlflow.data.context") == context
        for entry in datasets
    )


def _search_experiments(rest: MlflowRest) -> Iterator[str]:
    request: dict[str, Any] = {"filter": f"name LIKE '{EXPERIMENT_PREFIX}%'", "max_results": 1000}
    while True:
        answer = rest.post("experiments/search", request)
        yield from (str(experiment["experiment_id"]) for experiment in answer.get("experiments", []))
        if not answer.get("next_page_token"):
            return
        request["page_token"] = answer["next_page_token"]


def _search_runs(rest: MlflowRest, experiments: list[str], condition: str) -> Iterator[Mapping[str, Any]]:
    request: dict[str, Any] = {"experiment_ids": experiments, "filter": condition, "max_results": _PER_PAGE}
    while experiments:
        answer = rest.post("runs/search", request)
        yield from answer.get("runs", [])
        if not answer.get("next_page_token"):
            return
        request["page_token"] = answer["next_page_token"]


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
        cached=tags.get("zen.cache") == "hit",
        inputs=_artifacts_from_tags(run, tags, "input"),
        outputs=_artifacts_from_tags(run, tags, "output"),
    )


def _artifacts_from_tags(run: Mapping[str, Any], tags: Mapping[str, str], context: str) -> tuple[FoundArtifact, ...]:
    """Read the packed tag; where it was too short, the datasets too."""
    packed = [item.rpartition("@") for item in tags.get(f"zen.{context}s", "").split("|") if "@" in item]
    found = {FoundArtifact(name, digest): None for name, _, digest in packed}
    if tags.get("zen.io_truncated"):
        for entry in run.get("inputs", {}).get("dataset_inputs", []):
            if tags_to_dict(entry).get("mlflow.data.context") == context:
                found[FoundArtifact(entry["dataset"]["name"], entry["dataset"]["digest"])] = None
    return tuple(found)


_READER_THREADS = 16


def ancestry_from_records(digest: str, transport: Transport) -> Ancestry:
    """Walk from an artifact back to the raw data through the records of all DAG runs, each of which is read.

    `digest`: 16 characters or more. Raises `LineageNotFound` where no record says who made it.
    """
    made: dict[str, list[FoundRun]] = defaultdict(list)
    for run in _read_all_records(transport):
        if not run.is_hit and run.state is StepState.FINISHED:
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
        cached=run.is_hit,
        inputs=tuple(FoundArtifact(ref.name or path, short_digest(ref.digest)) for path, ref in run.inputs.items()),
        outputs=tuple(FoundArtifact(ref.name or name, short_digest(ref.digest)) for name, ref in run.outputs.items()),
    )


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
