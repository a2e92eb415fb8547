"""What MLflow knows of a DAG run: its parent run, the runs of its steps, its models."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_zen.lineage.mlflow.description import PageUrls
from airflow_zen.lineage.mlflow.experiments import find_experiment
from airflow_zen.lineage.mlflow.tags import EXPERIMENT_PREFIX, dag_run_key, parent_filter, quote_filter_value
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.rest import MlflowRest

# More would take MLflow longer than we wait for an answer.
_PER_PAGE = 100
_MODELS_PER_PAGE = 50


@dataclass(frozen=True)
class MlflowDagRun:
    """A DAG run as MLflow has it: `steps` are the runs of its steps by our id, `models` the ids of its models by digest.

    A step that hands a model on, to register it, makes another logged model of the same digest. The newest comes first.
    """

    dag_id: str
    run_id: str
    experiment_id: str
    parent: str
    artifact_uri: str
    steps: Mapping[StepRunId, Mapping[str, Any]]
    models: Mapping[str, Sequence[str]]

    def page_urls(self, ui: str = "") -> PageUrls:
        """Give the pages; relative ones where no `ui` is named."""
        runs = {step: str(run["info"]["run_id"]) for step, run in self.steps.items()}
        models = {digest: model_ids[-1] for digest, model_ids in self.models.items()}
        return PageUrls(self.experiment_id, ui, runs, models)

    def unrecorded_steps(self, recorded: Container[StepRunId]) -> Iterator[StepRun]:
        """Give what is known of steps that left no record, because their process died."""
        for step, run in self.steps.items():
            if step not in recorded:
                info = run["info"]
                ended = info.get("end_time")
                yield StepRun(
                    step,
                    state=_step_state(info),
                    started=int(info.get("start_time", 0)) / 1000,
                    ended=int(ended) / 1000 if ended else None,
                )


@dataclass(frozen=True)
class RunningDagRun:
    """A DAG run that MLflow shows as running; `dag_version` is empty where its first step did not say."""

    dag_id: str
    run_id: str
    dag_version: str


def find_dag_run(dag_id: str, run_id: str, rest: MlflowRest) -> MlflowDagRun | None:
    """Ask MLflow for a DAG run; None where it has no parent run for it."""
    experiment = find_experiment(dag_id, rest)
    if experiment is None or experiment.deleted:
        return None
    parents = [*_search_runs(rest, experiment.id, parent_filter(dag_id, run_id))]
    if not parents:
        return None
    parent = parents[0]["info"]
    children = _search_runs(rest, experiment.id, f"tags.`mlflow.parentRunId` = {quote_filter_value(parent['run_id'])}")
    steps = {step: child for child in children if (step := _step_run_id(child)) is not None}
    models = _model_ids_by_digest(rest, experiment.id, dag_run_key(dag_id, run_id))
    return MlflowDagRun(dag_id, run_id, experiment.id, parent["run_id"], parent["artifact_uri"], steps, models)


def running_dag_runs(rest: MlflowRest) -> Iterator[RunningDagRun]:
    """Give every DAG run whose parent run MLflow shows as running."""
    request: dict[str, Any] = {"filter": f"name LIKE '{EXPERIMENT_PREFIX}%'", "max_results": 1000}
    for experiment in rest.paginate("experiments/search", request, "experiments"):
        running = "tags.`zen.kind` = 'dag_run' AND attributes.status = 'RUNNING'"
        for run in _search_runs(rest, str(experiment["experiment_id"]), running):
            tags = tags_to_dict(run["data"])
            yield RunningDagRun(tags["zen.dag_id"], tags["zen.run_id"], tags.get("zen.dag_version", ""))


def _search_runs(rest: MlflowRest, experiment_id: str, condition: str) -> Iterator[Mapping[str, Any]]:
    request: dict[str, Any] = {"experiment_ids": [experiment_id], "filter": condition, "max_results": _PER_PAGE}
    yield from rest.paginate("runs/search", request, "runs")


def _model_ids_by_digest(rest: MlflowRest, experiment_id: str, key: str) -> Mapping[str, Sequence[str]]:
    condition = f"tags.`zen.run_key` = {quote_filter_value(key)}"
    request = {"experiment_ids": [experiment_id], "filter": condition, "max_results": _MODELS_PER_PAGE}
    found: dict[str, list[str]] = {}
    for model in rest.paginate("logged-models/search", request, "models"):
        digest = tags_to_dict(model["info"]).get("zen.digest")
        if digest:
            found.setdefault(digest, []).append(str(model["info"]["model_id"]))
    return found


def tags_to_dict(entity: Mapping[str, Any]) -> Mapping[str, str]:
    """Read MLflow's list of tags as a mapping."""
    tags: Sequence[Mapping[str, str]] = entity.get("tags", [])
    return {tag["key"]: tag.get("value", "") for tag in tags}


def _step_run_id(run: Mapping[str, Any]) -> StepRunId | None:
    tags = tags_to_dict(run["data"])
    if tags.get("zen.kind") != "step":
        return None
    places = int(tags.get("zen.map_index", -1)), int(tags.get("zen.try", 1))
    return StepRunId(tags["zen.dag_id"], tags["zen.run_id"], tags["zen.task_id"], *places)


def _step_state(info: Mapping[str, Any]) -> StepState:
    status = str(info.get("status", ""))
    return StepState(status) if status in {str(state) for state in StepState} else StepState.RUNNING
