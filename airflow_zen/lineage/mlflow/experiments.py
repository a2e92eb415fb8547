"""The one experiment of a DAG: found, made, or brought back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.lineage.mlflow.encoding import key_value_entries
from airflow_zen.lineage.mlflow.errors import MlflowRejected
from airflow_zen.lineage.mlflow.tags import experiment_location, experiment_name, experiment_tags

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.rest import MlflowRest

_DAG_RUNS_FILTER = "searchFilter=tags.%60zen.kind%60%20%3D%20%22dag_run%22"


class Experiment(msgspec.Struct, frozen=True):
    """An MLflow experiment: its id, and whether it was deleted by someone."""

    id: str
    deleted: bool = False


def get_or_create_experiment(dag_id: str, rest: MlflowRest, artifact_root: str) -> Experiment:
    """Get or make the experiment of a DAG; one that was deleted in MLflow is restored with its runs.

    Its artifacts lie under our own root, so that models need no second upload.
    """
    found = find_experiment(dag_id, rest) or _create(dag_id, rest, artifact_root) or find_experiment(dag_id, rest)
    if found is None:
        raise MlflowRejected(f"Experiment {experiment_name(dag_id)!r} can be neither found nor made.", 404)
    if found.deleted:
        rest.post("experiments/restore", {"experiment_id": found.id})
    return Experiment(found.id)


def find_experiment(dag_id: str, rest: MlflowRest) -> Experiment | None:
    """Find the experiment of a DAG; one request."""
    try:
        answer = rest.get("experiments/get-by-name", {"experiment_name": experiment_name(dag_id)})
    except MlflowRejected as error:
        if error.is_missing:
            return None
        raise
    found: dict[str, Any] = answer["experiment"]
    return Experiment(str(found["experiment_id"]), found.get("lifecycle_stage") == "deleted")


def _create(dag_id: str, rest: MlflowRest, artifact_root: str) -> Experiment | None:
    """Make the experiment; None when another task was faster."""
    request = {
        "name": experiment_name(dag_id),
        "artifact_location": experiment_location(artifact_root, dag_id),
        "tags": key_value_entries(experiment_tags(dag_id)),
    }
    try:
        experiment = Experiment(str(rest.post("experiments/create", request)["experiment_id"]))
    except MlflowRejected as error:
        if error.already_exists:
            return None
        raise
    note = f"Runs of the Airflow DAG `{dag_id}`. [One line per DAG run]({_experiment_page(experiment.id)})"
    tag = {"experiment_id": experiment.id, "key": "mlflow.note.content", "value": note}
    rest.post("experiments/set-experiment-tag", tag)
    return experiment


def _experiment_page(experiment_id: str) -> str:
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&{_DAG_RUNS_FILTER}"
