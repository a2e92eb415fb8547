"""DAG runs in MLflow: the parent run, the runs of the steps, and the models."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.lineage.mlflow.description import PageUrls
from airflow_zen.lineage.mlflow.encoding import MAX_KEY
from airflow_zen.lineage.mlflow.parent_runs import find_experiment
from airflow_zen.lineage.mlflow.tags import (
    EXPERIMENT_PREFIX,
    PARENT_TAG,
    dag_run_key,
    parent_filter,
    quote_filter_value,
)
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.rest import MlflowRest

_MODELS_PER_PAGE = 50

# MLflow's page has a section for the metrics whose names begin with the same word and a slash.
_REUSED = "reused/"
# Metrics of a run that are not of the step's own code, or are not its own.
_OTHER_METRICS = ("zen.", "system/", _REUSED)
_METRICS_PER_REQUEST = 1000


class MlflowDagRun(msgspec.Struct, frozen=True):
    """A DAG run in MLflow.

    state, has_parameters: those of its parent run. steps: the MLflow runs of its steps, by `StepRunId`. models: the ids
    of its models by digest, newest first. A step that registers a model of another step creates a second model of the
    same digest.
    """

    dag_id: str
    run_id: str
    experiment_id: str
    parent: str
    state: str
    artifact_uri: str
    steps: Mapping[StepRunId, Mapping[str, Any]]
    models: Mapping[str, Sequence[str]]
    has_parameters: bool = False

    def page_urls(self, ui: str = "") -> PageUrls:
        """Return the addresses of the pages, relative ones by default."""
        runs = {step: str(run["info"]["run_id"]) for step, run in self.steps.items()}
        models = {digest: model_ids[-1] for digest, model_ids in self.models.items()}
        return PageUrls(self.experiment_id, ui, runs, models)

    def unrecorded_steps(self, recorded: Container[StepRunId]) -> Iterator[StepRun]:
        """Yield what MLflow has about steps without a record, whose processes were killed."""
        for step, run in self.steps.items():
            if step not in recorded:
                info = run["info"]
                status, ended = str(info.get("status", "")), info.get("end_time")
                yield StepRun(
                    step,
                    state=StepState(status) if status in {*StepState} else StepState.RUNNING,
                    started=int(info.get("start_time", 0)) / 1000,
                    ended=int(ended) / 1000 if ended else None,
                )


class RunningDagRun(msgspec.Struct, frozen=True):
    """A DAG run that MLflow shows as running; `dag_version` is empty where its first step had none."""

    dag_id: str
    run_id: str
    dag_version: str


def find_dag_run(dag_id: str, run_id: str, rest: MlflowRest) -> MlflowDagRun | None:
    """Read a DAG run from MLflow; return None if it has no parent run there."""
    experiment = find_experiment(dag_id, rest)
    if experiment is None or experiment.deleted:
        return None
    parents = [*rest.search_runs(experiment.id, parent_filter(dag_id, run_id))]
    if not parents:
        return None
    parent, has_parameters = parents[0]["info"], bool(parents[0]["data"].get("params"))
    steps = {
        StepRunId.parse(tags["zen.key"]): child
        for child in nested_runs(rest, experiment.id, parent["run_id"])
        if (tags := tags_to_dict(child["data"])).get("zen.kind") == "step"
    }
    models = _model_ids_by_digest(rest, experiment.id, dag_run_key(dag_id, run_id))
    state = str(parent.get("status", ""))
    ids, files = (dag_id, run_id, experiment.id, parent["run_id"]), parent["artifact_uri"]
    return MlflowDagRun(*ids, state, files, steps, models, has_parameters)


def nested_runs(rest: MlflowRest, experiment_id: str, parent: str) -> Iterator[Mapping[str, Any]]:
    """Yield the runs in a DAG run's parent run, and those of the trials in the runs of its sweeps."""
    for run in [*rest.search_runs(experiment_id, nested_in(parent))]:
        if tags_to_dict(run["data"]).get("zen.kind") == "sweep":
            yield from nested_runs(rest, experiment_id, run["info"]["run_id"])
        yield run


def nested_in(parent: str) -> str:
    """Return the filter that finds the runs nested in one."""
    return f"tags.`{PARENT_TAG}` = {quote_filter_value(parent)}"


def read_metrics(rest: MlflowRest, run_id: str) -> dict[str, float]:
    """Return the last values of a run's metrics that are not ours; none of a run that does not exist."""
    found = rest.find("runs/get", {"run_id": run_id}) if run_id else None
    metrics = found["run"]["data"].get("metrics", ()) if found else ()
    return {metric["key"]: float(metric["value"]) for metric in metrics if not metric["key"].startswith(_OTHER_METRICS)}


def log_reused_metrics(dag_run: MlflowDagRun, runs: Iterable[StepRun], rest: MlflowRest) -> None:
    """Log in the run of each hit the metrics of the run that it reuses, as `reused/<name>`.

    This is done when the DAG run has ended, so that no task waits for it; repeating it changes nothing.
    """
    reused: dict[tuple[str, str], MlflowDagRun | None] = {}
    for run in runs:
        if not (run.is_hit and run.origin and run.id in dag_run.steps):
            continue
        origin = StepRunId.parse(run.origin)
        key = origin.dag_id, origin.run_id
        if key not in reused:
            reused[key] = find_dag_run(*key, rest)
        known = reused[key]
        found = known.steps.get(origin) if known else None
        if found and (metrics := [*islice(_reused_metrics(found), _METRICS_PER_REQUEST)]):
            rest.post("runs/log-batch", {"run_id": dag_run.steps[run.id]["info"]["run_id"], "metrics": metrics})


def _reused_metrics(run: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the metrics of a run, with values, times and steps, under the names they get in a run that reuses it."""
    for metric in run.get("data", {}).get("metrics", []):
        if not metric["key"].startswith(_OTHER_METRICS):
            yield {**metric, "key": f"{_REUSED}{metric['key']}"[:MAX_KEY]}


def running_dag_runs(rest: MlflowRest) -> Iterator[RunningDagRun]:
    """Yield every DAG run whose parent run MLflow shows as running."""
    for experiment_id in find_experiment_ids(rest):
        for run in rest.search_runs(experiment_id, "tags.`zen.kind` = 'dag_run' AND attributes.status = 'RUNNING'"):
            tags = tags_to_dict(run["data"])
            yield RunningDagRun(tags["zen.dag_id"], tags["zen.run_id"], tags.get("zen.dag_version", ""))


def find_experiment_ids(rest: MlflowRest) -> Iterator[str]:
    """Yield the experiments of all DAGs."""
    search = {"filter": f"name LIKE '{EXPERIMENT_PREFIX}%'", "max_results": 1000}
    return (str(each["experiment_id"]) for each in rest.paginate("experiments/search", search, "experiments"))


def tags_to_dict(entity: Mapping[str, Any]) -> Mapping[str, str]:
    """Return MLflow's list of tags as a mapping."""
    return {tag["key"]: tag.get("value", "") for tag in entity.get("tags", [])}


def _model_ids_by_digest(rest: MlflowRest, experiment_id: str, key: str) -> Mapping[str, Sequence[str]]:
    condition = f"tags.`zen.run_key` = {quote_filter_value(key)}"
    search = {"experiment_ids": [experiment_id], "filter": condition, "max_results": _MODELS_PER_PAGE}
    found: dict[str, list[str]] = {}
    for model in rest.paginate("logged-models/search", search, "models"):
        digest = tags_to_dict(model["info"]).get("zen.digest")
        if digest:
            found.setdefault(digest, []).append(str(model["info"]["model_id"]))
    return found
