"""What user code told MLflow's client while the server was away, on its way to the artifact root."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import asdict

from airflow_zen.lineage.mlflow.encoding import to_milliseconds
from airflow_zen.lineage.mlflow.tags import experiment_name, run_name
from airflow_zen.lineage.recorder import temporary_environment

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.parent_runs import ParentRun
    from airflow_zen.lineage.mlflow.server import TrackingServer
    from airflow_zen.runs.step_run import StepRun

# The variable that leads MLflow's client to the folder; it is set while a step's function runs, and only then.
VARIABLE = "AIRFLOW_ZEN_USER_CALLS"

# What makes one of these be found again carries the call's id in this tag.
CALL_TAG = "zen.call"

CALLS, NOTES, STEP, FILES = "calls.jsonl", "notes.jsonl", "step.json", "files"


class UserCall(msgspec.Struct, frozen=True):
    """One request that MLflow has not got: `api` is its name in MLflow's service, `path` what follows `/mlflow/`.

    `made` is the id under which user code knows what the call makes, until MLflow gives it another.
    """

    api: str
    method: str
    path: str
    body: Mapping[str, Any]
    made: str = ""


class UserCalls:
    """Keep calls in a folder, in their order, whichever process of the step they come from.

    `calls.jsonl` is there from the first call on that MLflow did not take: then it is asked no more.
    `files/<id>/` holds the files of runs and models that MLflow does not know, or that only it can store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_step(cls) -> UserCalls | None:
        """Give the calls of the step whose function runs in this process, or started it; None elsewhere."""
        folder = os.environ.get(VARIABLE)
        return cls(Path(folder)) if folder else None

    def begin(self, step: Mapping[str, Any], away: bool) -> None:
        """Note what is known of the step's run; `away` says that MLflow need not be asked."""
        (self.folder / STEP).write_text(json.dumps(step))
        if away:
            self.give_up()

    def step(self) -> dict[str, Any]:
        """Read what is known of the step's run: `server`, `run`, `experiment`."""
        return dict(json.loads((self.folder / STEP).read_bytes()))

    @property
    def given_up(self) -> bool:
        """Tell whether MLflow is asked no more."""
        return (self.folder / CALLS).exists()

    @property
    def empty(self) -> bool:
        """Tell whether there is nothing to be sent later."""
        return not _bytes(self.folder / CALLS) and not (self.folder / FILES).exists()

    def give_up(self) -> None:
        """Ask MLflow no more, in none of the step's processes."""
        (self.folder / CALLS).touch()

    def add(self, call: UserCall) -> None:
        """Keep a call; it is there whole whatever becomes of the process."""
        _append(self.folder / CALLS, asdict(call))

    def note(self, answer: Mapping[str, Any]) -> None:
        """Keep what MLflow said of a run, a model or an experiment while it was there."""
        _append(self.folder / NOTES, answer)

    def all(self) -> Iterator[UserCall]:
        """Read the calls in their order."""
        return read_calls(_bytes(self.folder / CALLS))

    def notes(self) -> Iterator[dict[str, Any]]:
        """Read what MLflow said."""
        yield from map(json.loads, _bytes(self.folder / NOTES).splitlines())

    def files_of(self, thing: str) -> str:
        """Give the folder for the files of a run or model."""
        return str(self.folder / FILES / thing / "artifacts")


def new_id() -> str:
    """Make an id for what MLflow has not made yet; no other text contains it."""
    return uuid.uuid4().hex


def read_calls(lines: bytes) -> Iterator[UserCall]:
    """Read what `calls.jsonl` holds; half a last line, which a machine that died may leave, was never said."""
    for line in lines[: lines.rfind(b"\n") + 1].splitlines():
        yield UserCall(**json.loads(line))


def _append(path: Path, document: Mapping[str, Any]) -> None:
    line = json.dumps(document).encode() + b"\n"
    # One write in append mode is whole, also beside those of other processes.
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line)
    finally:
        os.close(file)


def _bytes(path: Path) -> bytes:
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def user_environment(
    run: StepRun,
    server: TrackingServer,
    calls: UserCalls,
    parent: ParentRun | None = None,
    info: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Give the variables that lead MLflow's client into the step's run, and to `calls`, for what MLflow does not take.

    Without `parent` and `info` the run could not be opened: then all is kept, under ids that MLflow replaces later.
    """
    info = info or _unopened(run)
    experiment = {"experiment_id": info["experiment_id"], "name": experiment_name(run.id.dag_id)}
    if parent:
        experiment["artifact_location"] = parent.location
    known = {"run": {"info": info}, "experiment": {**experiment, "lifecycle_stage": "active"}}
    calls.begin({"server": server.uri, **known}, away=parent is None)
    ids = {"MLFLOW_RUN_ID": info["run_id"], "MLFLOW_EXPERIMENT_ID": info["experiment_id"], VARIABLE: str(calls.folder)}
    return {**server.environment(), **ids}


def _unopened(run: StepRun) -> dict[str, Any]:
    """Describe the run that MLflow will have, as far as it can be said."""
    run_id = new_id()
    return {
        "run_id": run_id,
        "run_uuid": run_id,
        "run_name": run_name(run),
        "experiment_id": new_id(),
        "status": "RUNNING",
        "lifecycle_stage": "active",
        "start_time": to_milliseconds(run.started),
    }


def end_user_run(run_id: str, status: str, environment: Mapping[str, str]) -> None:
    """End our run in MLflow's client where user code made it active; do nothing where MLflow was not imported.

    Without this, the client ends the run at exit, and writes FINISHED over our FAILED. `environment`
    is what the user's function saw; a run of the user's own is left alone.
    """
    mlflow = sys.modules.get("mlflow")
    if mlflow is None or not hasattr(mlflow, "end_run"):
        return
    with temporary_environment(
        {**environment, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}
    ):
        mlflow.flush_async_logging()
        while _is_ours(mlflow.active_run(), run_id):
            mlflow.end_run(status)


def _is_ours(active: Any, run_id: str) -> bool:
    if active is None:
        return False
    return run_id in {active.info.run_id, active.data.tags.get("mlflow.parentRunId")}
