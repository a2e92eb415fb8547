"""The model registry of a stack, and the artifacts that selectors of versions and models stand for."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_zen.artifacts.ref import VersionSelector
from airflow_zen.config.settings import Settings, tracking_server
from airflow_zen.errors import SettingsError
from airflow_zen.models.model import ModelSelector, as_selector

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.models.registered_models import RegisteredModels, RegisteredVersion
    from airflow_zen.stack import Stack

log = logging.getLogger("airflow_zen.models")


def open_registry(settings: Settings) -> RegisteredModels:
    """Return the model registry of a stack's MLflow. Raises `SettingsError` where none is configured."""
    from airflow_zen.lineage.mlflow.rest import MlflowRest
    from airflow_zen.models.registered_models import RegisteredModels

    if server := tracking_server(settings):
        return RegisteredModels(MlflowRest(server))
    option = settings.qualified_option("mlflow_conn_id")
    raise SettingsError(
        f"Registered models are in MLflow, which is not configured: set {option} or mlflow_tracking_uri. Versions of "
        "artifacts need none: Artifact('name').version('champion')."
    )


class SelectorResolver:
    """Look up the artifacts that selectors stand for, in one stack; MLflow is asked only about models.

    `selected` has what was looked up for which argument, by its path: `{"model": "flight_delay@champion, version 7"}`.
    """

    def __init__(self, settings: Settings, stack: Stack) -> None:
        self.settings = settings
        self.stack = stack
        self.selected: dict[str, str] = {}

    @cached_property
    def registry(self) -> RegisteredModels:
        """The stack's model registry. Raises `SettingsError` where no MLflow is configured."""
        return open_registry(self.settings)

    def is_selector(self, value: object) -> bool:
        """Whether a value selects a version of an artifact or of a registered model."""
        return VersionSelector.is_wire(value) or as_selector(value) is not None

    def resolve(self, value: Any, path: str = "") -> ArtifactRef:
        """Return the ref of the selected version, which may be that of a model, for the argument of a path.

        Raises `ArtifactNotFound`, `LineageNotFound` for what is not in the registry, and `SettingsError` without
        MLflow.
        """
        if VersionSelector.is_wire(value):
            return self.stack.names.resolve(VersionSelector.from_wire(value))
        selector = as_selector(value)
        return self.artifact_of(self.registry.get(selector), selector, path) if selector else value

    def find(self, value: Any, path: str = "") -> ArtifactRef | None:
        """Return the ref of a selected model version, None where the version or the alias does not exist yet."""
        selector = as_selector(value)
        version = self.registry.find(selector) if selector else None
        return self.artifact_of(version, selector, path) if selector and version else None

    def artifact_of(self, version: RegisteredVersion, selector: ModelSelector, path: str = "") -> ArtifactRef:
        """Return the ref of a version; log and keep which one a selector stands for."""
        ref = version.artifact(self.stack.store)
        log.info("Model %s is version %s (%s).", selector, version.number, ref.digest[:12])
        if path:
            self.selected[path] = f"{selector}, version {version.number}"
        return ref
