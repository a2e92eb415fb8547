"""Versions of registered models: one for each content, with the alias `challenger` on what a step registered last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_zen.lineage.mlflow.encoding import key_values
from airflow_zen.lineage.mlflow.errors import MlflowRejected
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.tags import quote_filter_value
from airflow_zen.runs.step_run import StepRun

CHALLENGER = "challenger"
_PER_PAGE = 100

# What the tags of a logged model say about its maker, which its versions say too.
_MAKER_TAGS = ("dag_id", "run_id", "task_id", "map_index", "key", "output", "digest", "name")


def maker_tags(run: StepRun, output: str) -> dict[str, str]:
    """Return the tags that say which step run made a model, and of which content."""
    found = {
        "dag_id": run.id.dag_id,
        "run_id": run.id.run_id,
        "task_id": run.id.task_id,
        "map_index": str(run.id.map_index) if run.id.map_index >= 0 else "",
        "key": str(run.id),
        "output": output,
        "digest": run.outputs[output].digest,
        "name": run.outputs[output].name,
    }
    return {f"zen.{key}": value for key, value in found.items() if value}


def versions_of_content(rest: MlflowRest, name: str, digest: str) -> list[Mapping[str, Any]]:
    """Return the versions of a model with this content, oldest first, as MLflow answers them; one request."""
    condition = f"name = {quote_filter_value(name)} AND tags.`zen.digest` = {quote_filter_value(digest)}"
    search = {"filter": condition, "max_results": _PER_PAGE}
    found = rest.get("model-versions/search", search).get("model_versions", [])
    return sorted(found, key=lambda version: int(version["version"]))


def register(rest: MlflowRest, run: StepRun, logged: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """Create the version of a logged model that `run.model` does not have yet, and return it.

    logged: the logged model's `model_id`, `source_run_id` and `tags`. Processes that register one content at the same
    time all create a version, and each deletes its own if it is not the first.
    """
    tags = {tag["key"]: tag["value"] for tag in logged.get("tags", [])}
    made = {key: tags[key] for each in _MAKER_TAGS if (key := f"zen.{each}") in tags}
    if made.get("zen.key") != str(run.id):
        made["zen.registered_by"] = str(run.id)
    _create_registered_model(rest, run)
    request = {
        "name": run.model,
        "source": source,
        "run_id": logged["source_run_id"],
        "model_id": logged["model_id"],
        "tags": key_values({**run.registration.get("tags", {}), **made}),
    }
    created: Mapping[str, Any] = rest.post("model-versions/create", request)["model_version"]
    first = next(iter(versions_of_content(rest, run.model, made["zen.digest"])), created)
    if first["version"] != created["version"]:
        rest.request("DELETE", "model-versions/delete", {"name": run.model, "version": created["version"]})
    return first


def point_challenger(rest: MlflowRest, name: str, number: str, *, forward_only: bool) -> None:
    """Point the alias `challenger` at a version; with `forward_only` only at a newer one than it has."""
    current = _challenger(rest, name)
    if current != number and not (forward_only and int(current or 0) > int(number)):
        rest.post("registered-models/alias", {"name": name, "alias": CHALLENGER, "version": number})


def _challenger(rest: MlflowRest, name: str) -> str:
    aliases = rest.get("registered-models/get", {"name": name})["registered_model"].get("aliases", [])
    return next((str(alias["version"]) for alias in aliases if alias["alias"] == CHALLENGER), "")


def _create_registered_model(rest: MlflowRest, run: StepRun) -> None:
    described = {"name": run.model, "description": run.registration.get("description", "")}
    try:
        rest.post("registered-models/create", described)
    except MlflowRejected as error:
        if not error.already_exists:
            raise
        if described["description"]:
            rest.request("PATCH", "registered-models/update", described)
