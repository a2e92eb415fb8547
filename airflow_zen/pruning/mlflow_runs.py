"""What MLflow holds: the artifacts of runs and models that nobody deleted there, and of registered versions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from airflow_zen.artifacts.root import relative_key
from airflow_zen.artifacts.transport import Transport
from airflow_zen.errors import ArtifactNotFound, SettingsError
from airflow_zen.lineage.known import tags_of
from airflow_zen.lineage.names import EXPERIMENT_PREFIX, quoted
from airflow_zen.lineage.rest import MlflowRest
from airflow_zen.pruning.holders import Holder, Holders
from airflow_zen.pruning.runs import Runs

# More would take MLflow longer than we wait for an answer.
_PER_PAGE, _MODELS_PER_PAGE, _EXPERIMENTS_PER_PAGE = 100, 50, 1000
_ITEM = re.compile(r"@([0-9a-f]{16})(?=\|)")
_MODEL_SOURCE = re.compile(r"models:/(m-[0-9a-f]+)")
# Set by people on a DAG run's parent run: never to be deleted by age.
KEEP = "zen.keep"


@dataclass(frozen=True)
class _Experiment:
    id: str
    dag_id: str


@dataclass
class MlflowHoldings:
    """Read what MLflow holds, and delete there what is old; every method raises `LineageError` when it is away."""

    rest: MlflowRest
    transport: Transport
    root: str
    _experiments: list[_Experiment] = field(default_factory=list)
    _registered_models: frozenset[str] = frozenset()
    _registered_runs: frozenset[str] = frozenset()

    def look(self) -> None:
        """Find the experiments of DAGs, and what the registry refers to."""
        search = {"filter": f"name LIKE '{EXPERIMENT_PREFIX}%'", "max_results": _EXPERIMENTS_PER_PAGE}
        found = self.rest.pages("experiments/search", search, "experiments")
        self._experiments = [
            _Experiment(str(one["experiment_id"]), tags_of(one).get("zen.dag_id", str(one["name"]))) for one in found
        ]
        versions = [*self._versions()]
        self._registered_runs = frozenset(str(one.get("run_id", "")) for one in versions)
        sources = [_MODEL_SOURCE.match(str(one.get("source", ""))) for one in versions]
        self._registered_models = frozenset(source[1] for source in sources if source)

    def expired(self, before: float, runs: Runs) -> list[str]:
        """Name the runs of DAG runs that began before a time, in seconds since the epoch; parents after their steps.

        Those stay that are recent here, that hold a registered model version, or that people tagged `zen.keep`.
        """
        found = []
        for experiment in self._experiments:
            condition = f"tags.`zen.kind` = 'dag_run' AND attributes.start_time < {int(before * 1000)}"
            for parent in self._runs(experiment, condition):
                tags = tags_of(parent["data"])
                if KEEP in tags or runs.is_recent(tags["zen.dag_id"], tags["zen.run_id"]):
                    continue
                family = [*self._steps(experiment, parent), str(parent["info"]["run_id"])]
                if self._registered_runs.isdisjoint(family):
                    found += family
        return found

    def delete(self, run_ids: list[str]) -> None:
        """Move runs, and the models that they made, to MLflow's trash."""
        for run_id in run_ids:
            self.rest.post("runs/delete", {"run_id": run_id})
        gone = set(run_ids)
        for experiment in self._experiments:
            for model in self._models(experiment):
                if model.get("source_run_id") in gone and model["model_id"] not in self._registered_models:
                    self.rest.delete(f"logged-models/{model['model_id']}")

    def mark(self, holders: Holders, but: frozenset[str]) -> None:
        """Note what MLflow holds, without the runs `but`."""
        for experiment in self._experiments:
            self._mark_runs(experiment, holders, but)
            for model in self._models(experiment):
                registered = model["model_id"] in self._registered_models
                digest = tags_of(model).get("zen.digest")
                if digest and (registered or model.get("source_run_id") not in but):
                    holders.add(Holder("model", str(model.get("name", experiment.dag_id))), [digest])

    def _mark_runs(self, experiment: _Experiment, holders: Holders, but: frozenset[str]) -> None:
        holder = Holder("MLflow run", experiment.dag_id)
        for run in self._runs(experiment, "tags.`zen.kind` = 'step'"):
            if str(run["info"]["run_id"]) in but:
                continue
            tags = tags_of(run["data"])
            holders.add(holder, _ITEM.findall(tags.get("zen.inputs", "") + tags.get("zen.outputs", "")))
            if tags.get("zen.io_truncated"):
                holders.add(holder, self._recorded(tags.get("zen.record", "")))

    def _recorded(self, url: str) -> list[str]:
        """Read from its record what a step read and made: MLflow's tags have no room for all of it."""
        with suppress(ArtifactNotFound, SettingsError):
            record = json.loads(self.transport.read(relative_key(self.root, url)))
            return [ref["digest"] for ref in [*record["inputs"].values(), *record["outputs"].values()]]
        return []

    def _steps(self, experiment: _Experiment, parent: Mapping[str, Any]) -> Iterator[str]:
        condition = f"tags.`mlflow.parentRunId` = {quoted(parent['info']['run_id'])}"
        for run in self._runs(experiment, condition):
            yield str(run["info"]["run_id"])

    def _runs(self, experiment: _Experiment, condition: str) -> Iterator[Mapping[str, Any]]:
        request = {"experiment_ids": [experiment.id], "filter": condition, "max_results": _PER_PAGE}
        yield from self.rest.pages("runs/search", request, "runs")

    def _models(self, experiment: _Experiment) -> Iterator[Mapping[str, Any]]:
        request = {"experiment_ids": [experiment.id], "max_results": _MODELS_PER_PAGE}
        for model in self.rest.pages("logged-models/search", request, "models"):
            yield model["info"]

    def _versions(self) -> Iterator[Mapping[str, Any]]:
        query: dict[str, Any] = {"max_results": _PER_PAGE}
        while True:
            answer = self.rest.get("model-versions/search", query)
            yield from answer.get("model_versions", [])
            if not answer.get("next_page_token"):
                return
            query["page_token"] = answer["next_page_token"]
