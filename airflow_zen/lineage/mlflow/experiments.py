"""Find, create and restore the experiment of a DAG."""

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
    """An MLflow experiment: its id, and whether it was deleted in MLflow."""

    id: str
    deleted: bool = False


def get_or_create_experiment(dag_id: str, rest: MlflowRest, artifact_root: str) -> Experiment:
    """Return the experiment of a DAG. Create a missing one, and restore a deleted one with its runs.

    Its files are stored under our own root, so that models are not uploaded twice.
    """
    found = find_experiment(dag_id, rest) or _create(dag_id, rest, artifact_root) or find_experiment(dag_id, rest)
    if found is None:
        raise MlflowRejected(f"Experiment {experiment_name(dag_id)!r} can be neither found nor created.", 404)
    if found.deleted:
        rest.post("experiments/restore", {"experiment_id": found.id})
    return Experiment(found.id)


def find_experiment(dag_id: str, rest: MlflowRest) -> Experiment | None:
    """Find the experiment of a DAG, also a deleted one; one request."""
    try:
        answer = rest.get("experiments/get-by-name", {"experiment_name": experiment_name(dag_id)})
    except MlflowRejected as error:
        if error.is_missing:
            return None
        raise
    found: dict[str, Any] = answer["experiment"]
    return Experiment(str(found["experiment_id"]), found.get("lifecycle_stage") == "deleted")


def _create(dag_id: str, rest: MlflowRest, artifact_root: str) -> Experiment | None:
    """Create the experiment; return None when another task was faster."""
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
    page = f"#/experiments/{experiment.id}/runs?workflowType=machine_learning&{_DAG_RUNS_FILTER}"
    note = f"Runs of the Airflow DAG `{dag_id}`. [One line per DAG run]({page})"
    tag = {"experiment_id": experiment.id, "key": "mlflow.note.content", "value": note}
    rest.post("experiments/set-experiment-tag", tag)
    return experiment
