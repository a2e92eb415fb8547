"""The model registry of an MLflow server: which versions a model has, what is in them, and where its aliases point."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.artifacts.folder import MANIFEST_FILE_NAME, Manifest, artifact_prefix
from airflow_zen.errors import ArtifactNotFound, InputError, LineageNotFound
from airflow_zen.lineage.mlflow.dag_runs import tags_to_dict
from airflow_zen.lineage.mlflow.errors import MlflowRejected
from airflow_zen.lineage.mlflow.model_versions import versions_of_content
from airflow_zen.lineage.mlflow.rest import SET_VERSION_TAG, MlflowRest
from airflow_zen.lineage.mlflow.tags import quote_filter_value
from airflow_zen.models.model import LATEST, ModelSelector
from airflow_zen.transports.base import map_in_parallel

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.artifacts.store import ArtifactStore

_PER_PAGE = 100
_MAX_LISTED = 10


class RegisteredVersion(msgspec.Struct, frozen=True):
    """One version of a registered model.

    `number` is a text, as in MLflow's API; `source` is the address of its files, `run_id` the MLflow run that made it.
    `created` is in seconds since the epoch.
    """

    name: str
    number: str
    source: str = ""
    run_id: str = ""
    created: float = 0.0
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)

    @classmethod
    def from_answer(cls, version: Mapping[str, Any]) -> RegisteredVersion:
        """Return the version of MLflow's answer."""
        return cls(
            str(version["name"]),
            str(version["version"]),
            version.get("source", ""),
            version.get("run_id", ""),
            int(version.get("creation_timestamp", 0)) / 1000,
            tags_to_dict(version),
        )

    @property
    def digest(self) -> str:
        """The digest of its artifact. Raises `InputError` for a version that no step registered."""
        if digest := self.tags.get("zen.digest"):
            return digest
        raise InputError(
            f"Version {self.number} of model {self.name!r} was not registered by a step, so that its artifact is not known. "
            f"Register it with @ml_step(model={self.name!r}), or select another version, such as Model({self.name!r})"
            ".latest()."
        )

    @property
    def model_id(self) -> str:
        """The id of its logged model in MLflow; empty for files that are elsewhere."""
        model_id = self.source.removeprefix("models:/")
        return model_id if model_id.startswith("m-") else ""

    @property
    def maker(self) -> str:
        """The name of the artifact, as the step that made it gave it."""
        return self.tags.get("zen.name") or f"{self.tags.get('zen.dag_id', '')}/{self.tags.get('zen.task_id', '')}"

    def artifact(self, store: ArtifactStore) -> ArtifactRef:
        """Return the ref of its artifact; one request.

        Raises `ArtifactNotFound` where the store does not have it, and `InputError` for a version that no step
        registered.
        """
        prefix = artifact_prefix(self.digest)
        try:
            text = store.transport.read(f"{prefix}/{MANIFEST_FILE_NAME}")
        except ArtifactNotFound as error:
            raise ArtifactNotFound(
                f"The artifact {self.digest[:12]} of version {self.number} of model {self.name!r} is not in {store.root}. Select "
                "a version that was made with this artifact root, or run the step that made it again."
            ) from error
        return Manifest.from_json(text, self.digest).ref(f"{store.root}/{prefix}", self.maker)


class RegisteredModels:
    """Read the model registry of one MLflow server, and move its aliases."""

    def __init__(self, rest: MlflowRest) -> None:
        self._rest = rest

    def __repr__(self) -> str:
        return f"RegisteredModels({self._rest.server.uri!r})"

    def models(self, part: str = "") -> Iterator[Mapping[str, Any]]:
        """Yield every registered model whose name contains `part` in any case, by name; a request for each 100."""
        search: dict[str, Any] = {"order_by": "name ASC", "max_results": _PER_PAGE}
        if part:
            search["filter"] = f"name ILIKE '{_like_pattern(part)}'"
        found = self._rest.paginate("registered-models/search", search, "registered_models", "GET")
        return (model for model in found if part.lower() in model["name"].lower())

    def versions(self, name: str) -> Iterator[RegisteredVersion]:
        """Yield the versions of a model, newest first; none where there is no such model."""
        condition, order = f"name = {quote_filter_value(name)}", "version_number DESC"
        search = {"filter": condition, "order_by": order, "max_results": _PER_PAGE}
        return map(
            RegisteredVersion.from_answer,
            self._rest.paginate("model-versions/search", search, "model_versions", "GET"),
        )

    def metrics(self, versions: Sequence[RegisteredVersion | None]) -> list[dict[str, float]]:
        """Return the latest metrics of each version; none of one that has no logged model."""
        return [*map_in_parallel(self._metrics, versions)]

    def _metrics(self, version: RegisteredVersion | None) -> dict[str, float]:
        found = self._rest.find(f"logged-models/{version.model_id}", {}) if version and version.model_id else None
        logged = found["model"].get("data", {}).get("metrics", []) if found else []
        logged.sort(key=lambda metric: (int(metric.get("timestamp", 0)), int(metric.get("step", 0))))
        return {metric["key"]: float(metric["value"]) for metric in logged}

    def aliases(self, name: str) -> dict[str, str]:
        """Return the version of each alias of a model. Raises `LineageNotFound` where there is no such model."""
        found = self._rest.find("registered-models/get", {"name": name})
        if found is None:
            names = ", ".join(repr(model["name"]) for model in islice(self.models(), _MAX_LISTED)) or "none"
            raise LineageNotFound(
                f"MLflow has no registered model {name!r}. It has {names}. A step registers one: @ml_step(model={name!r})."
            )
        aliases = found["registered_model"].get("aliases", [])
        return {alias["alias"]: str(alias["version"]) for alias in aliases}

    def get(self, selector: ModelSelector) -> RegisteredVersion:
        """Return the selected version; one request. Raises `LineageNotFound` for a missing model, version or alias."""
        found = self.find(selector)
        if found is not None:
            return found
        aliases = self.aliases(selector.name)
        if selector.alias:
            known = ", ".join(f"{alias!r} (version {number})" for alias, number in sorted(aliases.items())) or "none"
            raise LineageNotFound(
                f"Model {selector.name!r} has no alias {selector.alias!r}; it has {known}. Set it with "
                f"`airflow zen models promote {selector.name} VERSION {selector.alias}`, or with promote(…) in a DAG."
            )
        numbers = [version.number for version in islice(self.versions(selector.name), _MAX_LISTED + 1)]
        raise LineageNotFound(
            f"Model {selector.name!r} has no version {selector.version!r}; it has "
            f"{', '.join(numbers[:_MAX_LISTED]) or 'none'}{' and older ones' if len(numbers) > _MAX_LISTED else ''}."
        )

    def find(self, selector: ModelSelector) -> RegisteredVersion | None:
        """Return the selected version, None where the model, the version or the alias does not exist; one request."""
        if selector.version == LATEST:
            return next(self.versions(selector.name), None)
        try:
            if selector.alias:
                query = {"name": selector.name, "alias": selector.alias}
                found = self._rest.get("registered-models/alias", query)
            else:
                query = {"name": selector.name, "version": selector.version}
                found = self._rest.get("model-versions/get", query)
        except MlflowRejected as error:
            # For an alias that is not set, MLflow answers that a parameter is invalid.
            if error.is_missing or (selector.alias and error.error_code == "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return RegisteredVersion.from_answer(found["model_version"])

    def find_content(self, name: str, digest: str) -> RegisteredVersion | None:
        """Return the version of a model with this content, the first of several; None where there is none."""
        return next(iter(self.versions_of_content(name, digest)), None)

    def versions_of_content(self, name: str, digest: str) -> list[RegisteredVersion]:
        """Return the versions of a model with this content, oldest first."""
        return [*map(RegisteredVersion.from_answer, versions_of_content(self._rest, name, digest))]

    def set_alias(self, name: str, alias: str, number: str) -> None:
        """Point an alias at a version, which must exist: MLflow accepts any number."""
        self._rest.post("registered-models/alias", {"name": name, "alias": alias, "version": number})

    def set_tag(self, version: RegisteredVersion, key: str, value: str) -> None:
        """Set a tag of a version."""
        body = {"name": version.name, "version": version.number, "key": key, "value": value}
        self._rest.post(SET_VERSION_TAG, body)


def _like_pattern(part: str) -> str:
    """Return a pattern of SQL for the names that contain a text, and perhaps for others.

    Any characters may be in place of those that would need an escape, which is not the same in all databases of MLflow,
    or whose case SQLite does not ignore.
    """
    return re.sub("%+", "%", f"%{re.sub('[^A-Za-z0-9 .-]', '%', part)}%")
