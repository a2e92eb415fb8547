"""The one parent run of a DAG run, which the first of its tasks makes, however many are first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import asdict

from airflow_zen.errors import AlreadyExists, ArtifactNotFound
from airflow_zen.lineage.mlflow.encoding import MAX_RUN_NAME, key_value_entries, shorten
from airflow_zen.lineage.mlflow.errors import MlflowRejected
from airflow_zen.lineage.mlflow.experiments import Experiment, get_or_create_experiment
from airflow_zen.lineage.mlflow.tags import parent_filter, parent_tags
from airflow_zen.transports.base import Transport, quote_key_part

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.rest import MlflowRest
    from airflow_zen.runs.step_run import StepRun


class ParentRun(msgspec.Struct, frozen=True):
    """Where the step runs of a DAG run belong; `location` is where their experiment keeps files."""

    experiment_id: str
    run_id: str
    location: str

    def contains(self, artifact_uri: str) -> bool:
        """Tell whether a new run's files lie in this parent's experiment; not so after a server was set up anew."""
        return artifact_uri.startswith(f"{self.location}/")


class ParentRuns:
    """Find the parent run of a DAG run, or make it.

    MLflow cannot make "the run with this key" once. The store can: the run that is named in the claim
    `runs/<dag>/<run>/mlflow-<server>.json`, which only one task can create, is the parent.
    """

    def __init__(self, rest: MlflowRest, transport: Transport, artifact_root: str) -> None:
        self._rest = rest
        self._transport = transport
        self._root = artifact_root
        self._cached: dict[tuple[str, str], ParentRun] = {}
        self._verified: set[ParentRun] = set()

    def get_or_create(self, run: StepRun) -> ParentRun:
        """Give the parent: remembered, claimed (one store read), or made now."""
        known = self._cached.get((run.id.dag_id, run.id.run_id)) or self._read_claim(self._claim_key(run))
        if known is None:
            known = self._claim_parent(
                run, get_or_create_experiment(run.id.dag_id, self._rest, self._root), self._claim_key(run)
            )
        self._cached[run.id.dag_id, run.id.run_id] = known
        return known

    def ensure_active(self, run: StepRun, parent: ParentRun, reopen: bool = True) -> ParentRun:
        """See that a parent read from its claim still lives, once per process; give the one to use.

        A deleted one is restored, one that is gone made anew; `reopen` sets one that had ended to
        running again, because one of its tasks is.
        """
        if parent in self._verified:
            return parent
        active = self._reactivate(parent, reopen) or self._replace(run, parent)
        self._verified.add(active)
        return active

    def repair(self, run: StepRun, parent: ParentRun) -> ParentRun:
        """Give a parent that can take runs after `parent` could not."""
        experiment = get_or_create_experiment(run.id.dag_id, self._rest, self._root)
        self._verified.discard(parent)
        if experiment.id != parent.experiment_id:
            return self._replace(run, parent, experiment)
        return self.ensure_active(run, parent)

    def _reactivate(self, parent: ParentRun, reopen: bool) -> ParentRun | None:
        try:
            info = self._rest.get("runs/get", {"run_id": parent.run_id})["run"]["info"]
        except MlflowRejected as error:
            if error.is_missing:
                return None
            raise
        if info["experiment_id"] != parent.experiment_id:
            return None
        if info.get("lifecycle_stage") == "deleted":
            self._rest.post("runs/restore", {"run_id": parent.run_id})
        if reopen and info.get("status") != "RUNNING":
            self._rest.post("runs/update", {"run_id": parent.run_id, "status": "RUNNING"})
        return parent

    def _replace(self, run: StepRun, dead: ParentRun, experiment: Experiment | None = None) -> ParentRun:
        """Agree with all other tasks on one successor: its claim names the dead one, so only one can be made."""
        claim = self._claim_key(run, f"-after-{dead.run_id}")
        experiment = experiment or get_or_create_experiment(run.id.dag_id, self._rest, self._root)
        parent = self._read_claim(claim) or self._claim_parent(run, experiment, claim)
        self._transport.write(self._claim_key(run), _claim_json(parent))
        self._cached[run.id.dag_id, run.id.run_id] = parent
        return parent

    def _claim_parent(self, run: StepRun, experiment: Experiment, claim: str) -> ParentRun:
        """Find or make a parent run, and claim it; the loser removes what it made and takes the winner's."""
        found = self._find_unclaimed(run, experiment)
        mine = found or self._create(run, experiment)
        with suppress(AlreadyExists):
            self._transport.create(claim, _claim_json(mine))
        # Read again even after success: some S3 servers ignore the condition, and the last writer wins.
        winner = self._read_claim(claim) or mine
        if winner != mine and not found:
            self._rest.post("runs/delete", {"run_id": mine.run_id})
        if winner == mine and not found:
            self._verified.add(mine)
        return winner

    def _find_unclaimed(self, run: StepRun, experiment: Experiment) -> ParentRun | None:
        """Find a parent that MLflow has although no claim says so: its address, or the artifact root, was another."""
        request = {
            "experiment_ids": [experiment.id],
            "filter": parent_filter(run.id.dag_id, run.id.run_id),
            "order_by": ["attributes.start_time ASC"],
            "max_results": 1,
        }
        runs = self._rest.post("runs/search", request).get("runs", [])
        return _parent_from_info(runs[0]["info"]) if runs else None

    def _create(self, run: StepRun, experiment: Experiment) -> ParentRun:
        request = {
            "experiment_id": experiment.id,
            "run_name": shorten(run.id.run_id, MAX_RUN_NAME),
            "start_time": round(run.started * 1000),
            "tags": key_value_entries(parent_tags(run)),
        }
        return _parent_from_info(self._rest.post("runs/create", request)["run"]["info"])

    def _claim_key(self, run: StepRun, successor: str = "") -> str:
        server = hashlib.sha256(self._rest.server.uri.encode()).hexdigest()[:8]
        return f"runs/{quote_key_part(run.id.dag_id)}/{quote_key_part(run.id.run_id)}/mlflow-{server}{successor}.json"

    def _read_claim(self, claim: str) -> ParentRun | None:
        try:
            return ParentRun(**json.loads(self._transport.read(claim)))
        except ArtifactNotFound:
            return None


def _parent_from_info(info: Mapping[str, Any]) -> ParentRun:
    location = info["artifact_uri"].partition(f"/{info['run_id']}/")[0]
    return ParentRun(str(info["experiment_id"]), info["run_id"], location)


def _claim_json(parent: ParentRun) -> bytes:
    return json.dumps(asdict(parent)).encode()
