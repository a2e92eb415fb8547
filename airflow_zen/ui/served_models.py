"""Registered models and deployments in the catalogue."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_zen.errors import ZenError
from airflow_zen.runs.step_run import StepRunId
from airflow_zen.type_names import type_name
from airflow_zen.ui.catalogue_responses import (
    DeploymentRow,
    DeploymentsPage,
    ModelRow,
    ModelsPage,
    ModelVersionRow,
)
from airflow_zen.ui.facts import run_key, shorten

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactVersion
    from airflow_zen.deployment.base import Deployment
    from airflow_zen.lineage.mlflow.rest import MlflowRest
    from airflow_zen.models.registered_models import RegisteredModels, RegisteredVersion
    from airflow_zen.stack import Stack
    from airflow_zen.ui.access import Access
    from airflow_zen.ui.responses import RunKey
    from airflow_zen.ui.stacks import OpenedStack

log = logging.getLogger("airflow_zen.ui")

_DEPLOYMENTS, _ENCODING = "deployments/", "python.json@1"
_MAX_MODELS, _MAX_VERSIONS = 100, 20


def models_page(opened: OpenedStack, access: Access, search: str = "") -> ModelsPage:
    """Return the registered models whose name contains `search`, and that have a version which the user may see."""
    if opened.mlflow is None:
        return ModelsPage(models=[], error="MLflow is not configured.")
    try:
        return _search_models(opened.mlflow, access, search)
    except ZenError as error:
        return ModelsPage(models=[], error=str(error))


def deployments_page(opened: OpenedStack, access: Access) -> DeploymentsPage:
    """Return the deployments whose step the user may see; their state is asked of their targets."""
    visible = [each for each in opened.names.newest_versions(_DEPLOYMENTS) if access.may_read_origin(each.origin)]
    return DeploymentsPage(
        deployments=[_deployment_row(found) for each in visible if (found := _read(opened.stack, each))]
    )


def _read(stack: Stack, version: ArtifactVersion) -> Deployment | None:
    """Read a deployment; None for another value of such a name, which may need code to be read, or one that is damaged."""
    from airflow_zen.deployment.base import Deployment

    if version.ref.encoding != _ENCODING or version.ref.type != type_name(Deployment):
        return None
    try:
        with stack.scratch_directory() as scratch:
            found = stack.load(version.ref, scratch, Deployment)
    except ZenError as error:
        log.warning("A deployment cannot be shown: %s", error)
        return None
    return found if isinstance(found, Deployment) else None


def _search_models(rest: MlflowRest, access: Access, search: str) -> ModelsPage:
    from airflow_zen.models.registered_models import RegisteredModels

    registry = RegisteredModels(rest)
    found = [*islice(registry.models(search), _MAX_MODELS + 1)]
    rows = (_model_row(registry, each, access, rest.server.ui) for each in found[:_MAX_MODELS])
    return ModelsPage(models=[row for row in rows if row.versions], more=len(found) > _MAX_MODELS)


def _model_row(registry: RegisteredModels, model: Mapping[str, Any], access: Access, ui: str) -> ModelRow:
    """Return a model with those of its latest versions that the user may see."""
    found = [*islice(registry.versions(model["name"]), _MAX_VERSIONS + 1)]
    versions = [each for each in found[:_MAX_VERSIONS] if access.may_read_origin(_origin(each))]
    aliases = {each["alias"]: str(each["version"]) for each in model.get("aliases", [])}
    numbers = {each.number for each in versions}
    url = f"{ui}/#/models/{quote(model['name'], safe='')}"
    rows = [
        ModelVersionRow(
            version=version.number,
            created=version.created,
            aliases=sorted(alias for alias, number in aliases.items() if number == version.number),
            metrics=metrics,
            producer=_producer(version),
            url=f"{url}/versions/{version.number}",
        )
        for version, metrics in zip(versions, registry.metrics(versions), strict=True)
    ]
    return ModelRow(
        name=model["name"],
        description=shorten(model.get("description", "")),
        aliases={alias: number for alias, number in aliases.items() if number in numbers},
        versions=rows,
        more=len(found) > _MAX_VERSIONS,
        url=url,
    )


def _origin(version: RegisteredVersion) -> str:
    """Return what `Access.may_read_origin` takes: the DAG of the step that registered a version; empty without one."""
    return version.tags.get("zen.dag_id", "")


def _producer(version: RegisteredVersion) -> RunKey | None:
    try:
        return run_key(StepRunId.parse(version.tags.get("zen.key", "")))
    except ValueError:
        return None


def _deployment_row(deployed: Deployment) -> DeploymentRow:
    from airflow_zen.deployment import parse_target

    target = parse_target(deployed.target)
    try:
        state = str(target.describe_state(deployed))
    except ZenError as error:
        state = f"unknown: {error}"
    texts = {name: str(getattr(deployed, name) or "") for name in ("name", "model", "version", "owner", "since")}
    return DeploymentRow(**texts, state=state, target=type(target).__name__, url=deployed.predict_url or "")
