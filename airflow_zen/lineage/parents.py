"""The one parent run of a DAG run, which the first of its tasks makes, however many are first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec
from msgspec.structs import asdict

from airflow_zen.artifacts.root import folder
from airflow_zen.artifacts.transport import Transport
from airflow_zen.errors import AlreadyExists, ArtifactNotFound
from airflow_zen.lineage.experiments import Experiment, experiment_of
from airflow_zen.lineage.limits import RUN_NAME, shorten
from airflow_zen.lineage.names import parent_filter, parent_tags
from airflow_zen.lineage.parameters import entries
from airflow_zen.lineage.refusals import MlflowRefused
from airflow_zen.lineage.rest import MlflowRest
from airflow_zen.lineage.step_run import StepRun


class Parent(msgspec.Struct, frozen=True):
    """Where the step runs of a DAG run belong; `location` is where their experiment keeps files."""

    experiment_id: str
    run_id: str
    location: str

    def holds(self, artifact_uri: str) -> bool:
        """Tell whether a new run's files lie in this parent's experiment; not so after a server was set up anew."""
        return artifact_uri.startswith(f"{self.location}/")


class Parents:
    """Find the parent run of a DAG run, or make it.

    MLflow cannot make "the run with this key" once. The store can: the run that is named in the claim
    `runs/<dag>/<run>/mlflow-<server>.json`, which only one task can create, is the parent.
    """

    def __init__(self, rest: MlflowRest, transport: Transport, artifact_root: str) -> None:
        self._rest = rest
        self._transport = transport
        self._root = artifact_root
        self._known: dict[tuple[str, str], Parent] = {}
        self._confirmed: set[Parent] = set()

    def of(self, run: StepRun) -> Parent:
        """Give the parent: remembered, claimed (one store read), or made now."""
        known = self._known.get((run.id.dag_id, run.id.run_id)) or self._read(self._claim(run))
        if known is None:
            known = self._contest(run, experiment_of(run.id.dag_id, self._rest, self._root), self._claim(run))
        self._known[run.id.dag_id, run.id.run_id] = known
        return known

    def confirm(self, run: StepRun, parent: Parent, reopen: bool = True) -> Parent:
        """See that a parent read from its claim still lives, once per process; give the one to use.

        A deleted one is restored, one that is gone made anew; `reopen` sets one that had ended to
        running again, because one of its tasks is.
        """
        if parent in self._confirmed:
            return parent
        living = self._revived(parent, reopen) or self._replaced(run, parent)
        self._confirmed.add(living)
        return living

    def heal(self, run: StepRun, parent: Parent) -> Parent:
        """Give a parent that can take runs after `parent` could not."""
        experiment = experiment_of(run.id.dag_id, self._rest, self._root)
        self._confirmed.discard(parent)
        if experiment.id != parent.experiment_id:
            return self._replaced(run, parent, experiment)
        return self.confirm(run, parent)

    def _revived(self, parent: Parent, reopen: bool) -> Parent | None:
        try:
            info = self._rest.get("runs/get", {"run_id": parent.run_id})["run"]["info"]
        except MlflowRefused as error:
            if error.missing:
                return None
            raise
        if info["experiment_id"] != parent.experiment_id:
            return None
        if info.get("lifecycle_stage") == "deleted":
            self._rest.post("runs/restore", {"run_id": parent.run_id})
        if reopen and info.get("status") != "RUNNING":
            self._rest.post("runs/update", {"run_id": parent.run_id, "status": "RUNNING"})
        return parent

    def _replaced(self, run: StepRun, dead: Parent, experiment: Experiment | None = None) -> Parent:
        """Agree with all other tasks on one successor: its claim names the dead one, so only one can be made."""
        claim = self._claim(run, f"-after-{dead.run_id}")
        experiment = experiment or experiment_of(run.id.dag_id, self._rest, self._root)
        parent = self._read(claim) or self._contest(run, experiment, claim)
        self._transport.write(self._claim(run), _to_json(parent))
        self._known[run.id.dag_id, run.id.run_id] = parent
        return parent

    def _contest(self, run: StepRun, experiment: Experiment, claim: str) -> Parent:
        """Find or make a parent run, and claim it; the loser removes what it made and takes the winner's."""
        found = self._found(run, experiment)
        mine = found or self._made(run, experiment)
        with suppress(AlreadyExists):
            self._transport.create(claim, _to_json(mine))
        # Read again even after success: some S3 servers ignore the condition, and the last writer wins.
        winner = self._read(claim) or mine
        if winner != mine and not found:
            self._rest.post("runs/delete", {"run_id": mine.run_id})
        if winner == mine and not found:
            self._confirmed.add(mine)
        return winner

    def _found(self, run: StepRun, experiment: Experiment) -> Parent | None:
        """Find a parent that MLflow has although no claim says so: its address, or the artifact root, was another."""
        request = {
            "experiment_ids": [experiment.id],
            "filter": parent_filter(run.id.dag_id, run.id.run_id),
            "order_by": ["attributes.start_time ASC"],
            "max_results": 1,
        }
        runs = self._rest.post("runs/search", request).get("runs", [])
        return _parent(runs[0]["info"]) if runs else None

    def _made(self, run: StepRun, experiment: Experiment) -> Parent:
        request = {
            "experiment_id": experiment.id,
            "run_name": shorten(run.id.run_id, RUN_NAME),
            "start_time": round(run.started * 1000),
            "tags": entries(parent_tags(run)),
        }
        return _parent(self._rest.post("runs/create", request)["run"]["info"])

    def _claim(self, run: StepRun, successor: str = "") -> str:
        server = hashlib.sha256(self._rest.server.uri.encode()).hexdigest()[:8]
        return f"runs/{folder(run.id.dag_id)}/{folder(run.id.run_id)}/mlflow-{server}{successor}.json"

    def _read(self, claim: str) -> Parent | None:
        try:
            return Parent(**json.loads(self._transport.read(claim)))
        except ArtifactNotFound:
            return None


def _parent(info: Mapping[str, Any]) -> Parent:
    location = info["artifact_uri"].partition(f"/{info['run_id']}/")[0]
    return Parent(str(info["experiment_id"]), info["run_id"], location)


def _to_json(parent: Parent) -> bytes:
    return json.dumps(asdict(parent)).encode()
