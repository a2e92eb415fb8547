"""The experiment of a DAG and the parent run of a DAG run, which concurrent tasks find or create once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.errors import AlreadyExists, ArtifactNotFound
from airflow_zen.json_records import decode_record
from airflow_zen.lineage.mlflow.encoding import MAX_RUN_NAME, key_values, shorten, to_milliseconds
from airflow_zen.lineage.mlflow.errors import MlflowRejected
from airflow_zen.lineage.mlflow.tags import experiment_location, experiment_name, parent_filter, parent_tags, sweep_tags
from airflow_zen.runs.records import dag_run_folder
from airflow_zen.transports.base import Transport, quote_key_part

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.rest import MlflowRest
    from airflow_zen.runs.step_run import StepRun

# A view of MLflow's pages: a tag of the experiment, by this prefix and a key.
_VIEW_TAG, _VIEW_KEY = "mlflow.sharedViewState.", "dag-runs"
_VIEW_COLUMNS = (
    "metrics.`zen.steps`",
    "metrics.`zen.steps_cached`",
    "metrics.`zen.steps_failed`",
    "metrics.`zen.seconds_saved`",
)


class Experiment(msgspec.Struct, frozen=True):
    """An MLflow experiment: its id, and whether it was deleted in MLflow."""

    id: str
    deleted: bool = False


def get_or_create(dag_id: str, rest: MlflowRest, artifact_root: str) -> Experiment:
    """Return the experiment of a DAG; create it if it is missing, restore it if it was deleted.

    Its files are stored under the artifact root, so that models are not uploaded twice.
    """
    found = find_experiment(dag_id, rest) or _create(dag_id, rest, artifact_root) or find_experiment(dag_id, rest)
    if found is None:
        raise MlflowRejected(f"Experiment {experiment_name(dag_id)!r} can be neither found nor created.", 404)
    if found.deleted:
        rest.post("experiments/restore", {"experiment_id": found.id})
    return Experiment(found.id)


def find_experiment(dag_id: str, rest: MlflowRest) -> Experiment | None:
    """Find the experiment of a DAG, also a deleted one; one request."""
    answer = rest.find("experiments/get-by-name", {"experiment_name": experiment_name(dag_id)})
    if answer is None:
        return None
    found: dict[str, Any] = answer["experiment"]
    return Experiment(str(found["experiment_id"]), found.get("lifecycle_stage") == "deleted")


class ParentRun(msgspec.Struct, frozen=True):
    """The parent run of a DAG run's step runs; `location` is the artifact address of their experiment."""

    experiment_id: str
    run_id: str
    location: str


class ParentRuns:
    """Find the parent run of a DAG run, or create it.

    MLflow has no conditional creation of runs, but the store has one of keys. The parent is the run that the key
    `runs/<dag>/<run>/mlflow-<server>.json`, the claim, names: only one task can create it.
    """

    def __init__(self, rest: MlflowRest, transport: Transport, artifact_root: str) -> None:
        self._rest = rest
        self._transport = transport
        self._root = artifact_root
        self._cached: dict[tuple[str, str], ParentRun] = {}
        self._verified: set[ParentRun] = set()
        self._created: set[ParentRun] = set()
        self._sweeps: dict[str, str] = {}

    def get_or_create(self, run: StepRun) -> ParentRun:
        """Return the parent: from memory, from its claim (one store read), or a new one."""
        claim = self._claim_key(run)
        known = self._cached.get((run.id.dag_id, run.id.run_id)) or self._read_claim(claim)
        if known is None:
            experiment = get_or_create(run.id.dag_id, self._rest, self._root)
            known = self._claim_parent(run, experiment, claim)
        self._cached[run.id.dag_id, run.id.run_id] = known
        return known

    def nesting_run(self, run: StepRun, parent: ParentRun) -> str:
        """Return the id of the run that a step run is nested in: the parent, or for a trial the run of its sweep.

        The claim of a sweep's run names its parent, so a parent that was replaced has a new one.
        """
        if not run.sweep:
            return parent.run_id
        claim = self._claim_key(run, f"-{parent.run_id}-{quote_key_part(run.sweep['name'])}")
        if claim not in self._sweeps:
            found = self._read_claim(claim) or self._claim_sweep(run, parent, claim)
            self._sweeps[claim] = found.run_id
        return self._sweeps[claim]

    def take_created(self, parent: ParentRun) -> bool:
        """Return True once for a parent that this process created, whose parameters are not in MLflow yet."""
        was_created = parent in self._created
        self._created.discard(parent)
        return was_created

    def ensure_active(self, run: StepRun, parent: ParentRun, reopen: bool = True) -> ParentRun:
        """Check once per process that a parent from a claim exists in MLflow; return the parent to use.

        A deleted parent is restored, and a missing one replaced. reopen: set an ended parent to running again, because
        one of its tasks is running.
        """
        if parent in self._verified:
            return parent
        active = self._reactivate(parent, reopen) or self._replace(run, parent)
        self._verified.add(active)
        return active

    def repair(self, run: StepRun, parent: ParentRun) -> ParentRun:
        """Return a parent to use after MLflow refused a run under `parent`."""
        experiment = get_or_create(run.id.dag_id, self._rest, self._root)
        self._verified.discard(parent)
        if experiment.id != parent.experiment_id:
            return self._replace(run, parent, experiment)
        return self.ensure_active(run, parent)

    def _reactivate(self, parent: ParentRun, reopen: bool) -> ParentRun | None:
        found = self._rest.find("runs/get", {"run_id": parent.run_id})
        if found is None or (info := found["run"]["info"])["experiment_id"] != parent.experiment_id:
            return None
        if info.get("lifecycle_stage") == "deleted":
            self._rest.post("runs/restore", {"run_id": parent.run_id})
        if reopen and info.get("status") != "RUNNING":
            self._rest.post("runs/update", {"run_id": parent.run_id, "status": "RUNNING"})
        return parent

    def _replace(self, run: StepRun, dead: ParentRun, experiment: Experiment | None = None) -> ParentRun:
        """Replace a missing parent. The claim of its successor names it, so all tasks agree on one successor."""
        claim = self._claim_key(run, f"-after-{dead.run_id}")
        experiment = experiment or get_or_create(run.id.dag_id, self._rest, self._root)
        parent = self._read_claim(claim) or self._claim_parent(run, experiment, claim)
        self._transport.write(self._claim_key(run), msgspec.json.encode(parent))
        self._cached[run.id.dag_id, run.id.run_id] = parent
        return parent

    def _claim_parent(self, run: StepRun, experiment: Experiment, claim: str) -> ParentRun:
        """Find or create a parent run, and claim it; the task that loses deletes its run and uses the winner's."""
        # A parent without a claim was created with another address of MLflow, or another artifact root.
        condition = parent_filter(run.id.dag_id, run.id.run_id)
        unclaimed = next(self._rest.search_runs(experiment.id, condition, "attributes.start_time ASC"), None)
        found = _parent_from_info(unclaimed["info"]) if unclaimed else None
        mine = found or self._create(run, experiment.id, run.id.run_id, parent_tags(run))
        with suppress(AlreadyExists):
            self._transport.create(claim, msgspec.json.encode(mine))
        # Read it even after success: some S3 servers ignore the condition, so that the last writer wins.
        winner = self._read_claim(claim) or mine
        if winner != mine and not found:
            self._rest.post("runs/delete", {"run_id": mine.run_id})
        if winner == mine and not found:
            self._verified.add(mine)
            self._created.add(mine)
        return winner

    def _claim_sweep(self, run: StepRun, parent: ParentRun, claim: str) -> ParentRun:
        """Create the run of a sweep, and claim it; the task that loses deletes its run and uses the winner's."""
        mine = self._create(run, parent.experiment_id, run.sweep["name"], sweep_tags(run, parent.run_id))
        with suppress(AlreadyExists):
            self._transport.create(claim, msgspec.json.encode(mine))
        winner = self._read_claim(claim) or mine
        if winner != mine:
            self._rest.post("runs/delete", {"run_id": mine.run_id})
        return winner

    def _create(self, run: StepRun, experiment_id: str, name: str, tags: Mapping[str, str]) -> ParentRun:
        request = {
            "experiment_id": experiment_id,
            "run_name": shorten(name, MAX_RUN_NAME),
            "start_time": to_milliseconds(run.started),
            "tags": key_values({key: value for key, value in tags.items() if value}),
        }
        return _parent_from_info(self._rest.post("runs/create", request)["run"]["info"])

    def _claim_key(self, run: StepRun, successor: str = "") -> str:
        return _claim_key(run.id.dag_id, run.id.run_id, self._rest, successor)

    def _read_claim(self, claim: str) -> ParentRun | None:
        return _read_claim(claim, self._transport)


def claimed_parent(dag_id: str, run_id: str, rest: MlflowRest, transport: Transport) -> ParentRun | None:
    """Return the parent run that the store names for a DAG run, without a request to MLflow; None where it names none."""
    return _read_claim(_claim_key(dag_id, run_id, rest), transport)


def _claim_key(dag_id: str, run_id: str, rest: MlflowRest, successor: str = "") -> str:
    server = hashlib.sha256(rest.server.uri.encode()).hexdigest()[:8]
    return f"{dag_run_folder(dag_id, run_id)}/mlflow-{server}{successor}.json"


def _read_claim(claim: str, transport: Transport) -> ParentRun | None:
    try:
        return decode_record(transport.read(claim), ParentRun)
    except ArtifactNotFound:
        return None


def _create(dag_id: str, rest: MlflowRest, artifact_root: str) -> Experiment | None:
    """Create the experiment; return None when another task was faster."""
    request = {
        "name": experiment_name(dag_id),
        "artifact_location": experiment_location(artifact_root, dag_id),
        "tags": key_values(
            {
                "mlflow.experimentKind": "custom_model_development",
                "zen.dag_id": dag_id,
                f"{_VIEW_TAG}{_VIEW_KEY}": _dag_runs_view(),
            }
        ),
    }
    try:
        experiment = Experiment(str(rest.post("experiments/create", request)["experiment_id"]))
    except MlflowRejected as error:
        if error.already_exists:
            return None
        raise
    page = f"#/experiments/{experiment.id}/runs?workflowType=machine_learning&viewStateShareKey={_VIEW_KEY}"
    note = f"Runs of the Airflow DAG `{dag_id}`. [One line per DAG run]({page})"
    tag = {"experiment_id": experiment.id, "key": "mlflow.note.content", "value": note}
    rest.post("experiments/set-experiment-tag", tag)
    return experiment


def _dag_runs_view() -> str:
    """Return the view that shows each DAG run with its totals; MLflow lists it under *Views*."""
    state = {"searchFilter": "tags.`zen.kind` = 'dag_run'", "selectedColumns": _VIEW_COLUMNS}
    return json.dumps({"name": "DAG runs", "createdAt": 0, "state": json.dumps(state)})


def _parent_from_info(info: Mapping[str, Any]) -> ParentRun:
    location = info["artifact_uri"].partition(f"/{info['run_id']}/")[0]
    return ParentRun(str(info["experiment_id"]), info["run_id"], location)
