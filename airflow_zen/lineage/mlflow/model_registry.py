"""MLflow's registered models: their versions, and the aliases that point at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import LineageNotFound
from airflow_zen.lineage.mlflow.errors import MlflowRejected
from airflow_zen.lineage.mlflow.tags import quote_filter_value

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.rest import MlflowRest

_PER_PAGE = 100
_MAX_LISTED = 10


class RegisteredModels:
    """Look into the registry of one MLflow server, and move its aliases."""

    def __init__(self, rest: MlflowRest) -> None:
        self._rest = rest

    def models(self) -> Iterator[Mapping[str, Any]]:
        """Give every registered model, by name."""
        yield from self._search("registered-models/search", {"order_by": "name ASC"}, "registered_models")

    def versions(self, name: str) -> list[Mapping[str, Any]]:
        """Give the versions of a model, the newest first; none where there is no such model."""
        found = self._search(
            "model-versions/search", {"filter": f"name = {quote_filter_value(name)}"}, "model_versions"
        )
        return sorted(found, key=lambda version: int(version["version"]), reverse=True)

    def aliases(self, name: str) -> dict[str, str]:
        """Give the version that each alias of a model points at; raises `LineageNotFound` where there is no such model."""
        try:
            model = self._rest.get("registered-models/get", {"name": name})["registered_model"]
        except MlflowRejected as error:
            if error.is_missing:
                raise LineageNotFound(f"MLflow has no registered model {name!r}.{self._known_models_text()}") from error
            raise
        return {alias["alias"]: str(alias["version"]) for alias in model.get("aliases", [])}

    def promote(self, name: str, version: str, alias: str) -> str:
        """Point an alias at a version; give the version that it pointed at before, empty where at none.

        Raises `LineageNotFound` for a model or a version that there is not: MLflow itself takes any number.
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

    def _known_models_text(self) -> str:
        names = [repr(model["name"]) for model, _ in zip(self.models(), range(_MAX_LISTED), strict=False)]
        return f" It has {', '.join(names)}." if names else " It has none."

    def _search(self, path: str, query: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
        request: dict[str, Any] = {**query, "max_results": _PER_PAGE}
        while True:
            answer = self._rest.get(path, request)
            yield from answer.get(name, [])
            if not answer.get("next_page_token"):
                return
            request["page_token"] = answer["next_page_token"]
