"""What MLflow refers to: artifacts of runs and models that are not deleted there, and of registered versions."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import ArtifactNotFound, SettingsError
from airflow_zen.lineage.mlflow.dag_runs import tags_to_dict
from airflow_zen.lineage.mlflow.errors import MlflowRejected
from airflow_zen.lineage.mlflow.tags import EXPERIMENT_PREFIX, quote_filter_value
from airflow_zen.progress import ProgressCallback, ignore_progress, track_items
from airflow_zen.pruning.mark import RecentRuns, Referrer, ReferrerIndex, digests_of_record
from airflow_zen.transports.base import Transport, key_of_url

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.rest import MlflowRest

# MLflow needs longer for more than the timeout of a request.
_VERSIONS_PER_PAGE, _MODELS_PER_PAGE, _EXPERIMENTS_PER_PAGE = 100, 50, 1000
_IO_DIGEST = re.compile(r"@([0-9a-f]{16})(?=\|)")
_MODEL_SOURCE = re.compile(r"models:/(m-[0-9a-f]+)")
_ARTIFACT_URL = re.compile(r"/artifacts/[0-9a-f]{2}/([0-9a-f]{64})")
# Users set this tag on a DAG run's parent run to exclude it from expiry.
KEEP_TAG = "zen.keep"


@dataclass
class MlflowReferences:
    """Find what MLflow refers to, and delete old runs; every method raises `LineageError` when MLflow is unavailable."""

    rest: MlflowRest
    transport: Transport
    root: str
    on_progress: ProgressCallback = ignore_progress
    # DAG ids by the id of their experiment.
    _experiments: dict[str, str] = field(default_factory=dict)
    _versions: list[Mapping[str, Any]] = field(default_factory=list)
    _registered_models: frozenset[str] = frozenset()
    _registered_runs: frozenset[str] = frozenset()

    def load(self) -> None:
        """Find the experiments of DAGs, and the versions in the model registry."""
        search = {"filter": f"name LIKE '{EXPERIMENT_PREFIX}%'", "max_results": _EXPERIMENTS_PER_PAGE}
        found = self.rest.paginate("experiments/search", search, "experiments")
        self._experiments = {
            str(one["experiment_id"]): tags_to_dict(one).get("zen.dag_id", str(one["name"])) for one in found
        }
        page = {"max_results": _VERSIONS_PER_PAGE}
        self._versions = [*self.rest.paginate("model-versions/search", page, "model_versions", "GET")]
        self._registered_runs = frozenset(str(one.get("run_id", "")) for one in self._versions)
        self._registered_models = frozenset(map(_logged_model_id, self._versions)) - {""}

    def find_expired_runs(self, before: float, runs: RecentRuns) -> list[str]:
        """Return the runs of DAG runs that started before a time in seconds since the epoch, parents after their steps.

        Not among them are DAG runs that are recent in the store, that have not ended (another Airflow may run them),
        that have a registered model version, or that users tagged `zen.keep`.
        """
        found = []
        for experiment in self._experiments:
            began = f"attributes.start_time < {int(before * 1000)}"
            condition = f"tags.`zen.kind` = 'dag_run' AND attributes.status != 'RUNNING' AND {began}"
            for parent in self.rest.search_runs(experiment, condition):
                tags = tags_to_dict(parent["data"])
                if KEEP_TAG in tags or runs.is_recent(tags["zen.dag_id"], tags["zen.run_id"]):
                    continue
                parent_id = str(parent["info"]["run_id"])
                steps = self.rest.search_runs(
                    experiment, f"tags.`mlflow.parentRunId` = {quote_filter_value(parent_id)}"
                )
                run_ids = [*(str(step["info"]["run_id"]) for step in steps), parent_id]
                if self._registered_runs.isdisjoint(run_ids):
                    found += run_ids
        return found

    def delete_runs(self, run_ids: list[str]) -> None:
        """Move runs, and the models that they made, to MLflow's trash."""
        for run_id in track_items(run_ids, "Deleting runs in MLflow", self.on_progress, len(run_ids)):
            self.rest.post("runs/delete", {"run_id": run_id})
        gone = set(run_ids)
        for experiment in self._experiments:
            for model in self._search_models(experiment):
                if model.get("source_run_id") in gone and model["model_id"] not in self._registered_models:
                    self.rest.request("DELETE", f"logged-models/{model['model_id']}")

    def mark(self, referrers: ReferrerIndex, excluded_runs: frozenset[str]) -> None:
        """Mark what MLflow refers to, without the runs `excluded_runs`."""
        listed = set()
        for experiment, dag_id in self._experiments.items():
            self._mark_runs(experiment, dag_id, referrers, excluded_runs)
            models = self._search_models(experiment)
            for model in track_items(models, f"Asking MLflow for models of {dag_id}", self.on_progress):
                listed.add(model["model_id"])
                registered = model["model_id"] in self._registered_models
                digest = tags_to_dict(model).get("zen.digest")
                if digest and (registered or model.get("source_run_id") not in excluded_runs):
                    referrers.add(Referrer("model", str(model.get("name", dag_id))), [digest])
        self._mark_registered(referrers, listed)

    def _mark_registered(self, referrers: ReferrerIndex, listed: Collection[str]) -> None:
        """Mark what registered versions serve, from the store itself or by a logged model that was deleted since."""
        for version in track_items(
            self._versions, "Reading registered versions", self.on_progress, len(self._versions)
        ):
            referrer = Referrer("model", str(version["name"]))
            referrers.add(referrer, _ARTIFACT_URL.findall(str(version.get("source", ""))))
            model = _logged_model_id(version)
            if version.get("run_id") and model and model not in listed:
                referrers.add(referrer, self._digests_of_run(str(version["run_id"])))

    def _digests_of_run(self, run_id: str) -> list[str]:
        """Return the digests of one run; none where MLflow no longer has even the deleted run."""
        try:
            return self._digests(self.rest.get("runs/get", {"run_id": run_id})["run"])
        except MlflowRejected as error:
            if not error.is_missing:
                raise
            return []

    def _mark_runs(self, experiment: str, dag_id: str, referrers: ReferrerIndex, excluded_runs: frozenset[str]) -> None:
        steps = self.rest.search_runs(experiment, "tags.`zen.kind` = 'step'")
        for run in track_items(steps, f"Asking MLflow for step runs of {dag_id}", self.on_progress):
            if str(run["info"]["run_id"]) not in excluded_runs:
                referrers.add(Referrer("MLflow run", dag_id), self._digests(run))

    def _digests(self, run: Mapping[str, Any]) -> list[str]:
        tags = tags_to_dict(run["data"])
        recorded = self._digests_of_record(tags.get("zen.record", "")) if tags.get("zen.io_truncated") else []
        return _IO_DIGEST.findall(tags.get("zen.inputs", "") + tags.get("zen.outputs", "")) + recorded

    def _digests_of_record(self, url: str) -> list[str]:
        """Return the digests in a step's record, for a run with more of them than its tags hold."""
        with suppress(ArtifactNotFound, SettingsError):
            return digests_of_record(json.loads(self.transport.read(key_of_url(self.root, url))))
        return []

    def _search_models(self, experiment: str) -> Iterator[Mapping[str, Any]]:
        request = {"experiment_ids": [experiment], "max_results": _MODELS_PER_PAGE}
        for model in self.rest.paginate("logged-models/search", request, "models"):
            yield model["info"]


def _logged_model_id(version: Mapping[str, Any]) -> str:
    """Return the id of the logged model that a registered version serves; empty where it serves something else."""
    found = _MODEL_SOURCE.match(str(version.get("source", "")))
    return found[1] if found else ""
