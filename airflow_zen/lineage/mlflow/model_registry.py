"""The registered models of MLflow: their versions and aliases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import LineageNotFound
from airflow_zen.lineage.mlflow.errors import MlflowRejected
from airflow_zen.lineage.mlflow.tags import quote_filter_value

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.rest import MlflowRest

_PER_PAGE = 100
_MAX_LISTED = 10


class RegisteredModels:
    """Read the model registry of one MLflow server, and move its aliases."""

    def __init__(self, rest: MlflowRest) -> None:
        self._rest = rest

    def models(self) -> Iterator[Mapping[str, Any]]:
        """Yield every registered model, by name."""
        search = {"order_by": "name ASC", "max_results": _PER_PAGE}
        return self._rest.paginate("registered-models/search", search, "registered_models", "GET")

    def versions(self, name: str) -> list[Mapping[str, Any]]:
        """Return the versions of a model, newest first; none where there is no such model."""
        search = {"filter": f"name = {quote_filter_value(name)}", "max_results": _PER_PAGE}
        found = self._rest.paginate("model-versions/search", search, "model_versions", "GET")
        return sorted(found, key=lambda version: int(version["version"]), reverse=True)

    def aliases(self, name: str) -> dict[str, str]:
        """Return the version of each alias of a model. Raises `LineageNotFound` where there is no such model."""
        try:
            model = self._rest.get("registered-models/get", {"name": name})["registered_model"]
        except MlflowRejected as error:
            if not error.is_missing:
                raise
            names = ", ".join(repr(model["name"]) for model in islice(self.models(), _MAX_LISTED)) or "none"
            raise LineageNotFound(f"MLflow has no registered model {name!r}. It has {names}.") from error
        return {alias["alias"]: str(alias["version"]) for alias in model.get("aliases", [])}

    def promote(self, name: str, version: str, alias: str) -> str:
        """Move an alias to a version; return the version that it had before, empty where it had none.

        Raises `LineageNotFound` for a missing model or version: MLflow itself accepts any number.
        """
        before = self.aliases(name).get(alias, "")
        versions = [str(found["version"]) for found in self.versions(name)]
        if version not in versions:
            raise LineageNotFound(
                f"Model {name!r} has no version {version!r}; it has {', '.join(versions[:_MAX_LISTED]) or 'none'}"
                f"{' and older ones' if len(versions) > _MAX_LISTED else ''}."
            )
        self._rest.post("registered-models/alias", {"name": name, "alias": alias, "version": version})
        return before
