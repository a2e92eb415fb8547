"""What MLflow would say, as far as a step's own calls tell, while it is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.offline.call_log import UserCall, UserCalls

Thing = dict[str, Any]

# These change something, and say nothing back.
_SILENT = frozenset(
    {
        *("LogBatch", "LogMetric", "LogParam", "SetTag", "DeleteTag", "LogInputs", "LogOutputs", "LogModel"),
        *("DeleteRun", "RestoreRun", "SetExperimentTag", "SetLoggedModelTags", "LogLoggedModelParamsRequest"),
    }
)
_MAKING = frozenset({"CreateRun", "CreateLoggedModel", "CreateExperiment"})
_KEPT = _SILENT | _MAKING | {"UpdateRun", "FinalizeLoggedModel"}

# Only the server can store files at such an address.
_BEHIND_THE_SERVER = frozenset({"mlflow-artifacts", "http", "https"})


def makes(api: str) -> bool:
    """Tell whether a call makes a thing that later calls name by its id."""
    return api in _MAKING


def can_wait(api: str) -> bool:
    """Tell whether a call can be sent later, so that user code goes on as if it had been."""
    return api in _KEPT


def answer(calls: UserCalls, call: UserCall) -> Thing | None:
    """Answer a call, which `calls` hold if it can wait, from what the step knows; None where only the server could.

    A run whose files only the server can store has them in the step's folder meanwhile.
    """
    if call.api in _SILENT:
        return {}
    if call.api == "CreateExperiment":
        return {"experiment_id": call.made}
    known = _Known(calls)
    if call.api in {"CreateRun", "GetRun"}:
        return known.run(call.made or call.body["run_id"], "run")
    if call.api == "UpdateRun":
        return known.run(call.body["run_id"], "run_info") or {}
    if call.api in {"CreateLoggedModel", "GetLoggedModel", "FinalizeLoggedModel"}:
        return known.model(call.made or call.path.split("/")[1].partition("?")[0])
    if call.api == "GetExperiment":
        return known.experiment(lambda each: each["experiment_id"] == call.body["experiment_id"])
    if call.api == "GetExperimentByName":
        return known.experiment(lambda each: each.get("name") == call.body["experiment_name"])
    return None


class _Known:
    """Runs, models and experiments as this step has seen and changed them."""

    def __init__(self, calls: UserCalls) -> None:
        self._calls = calls
        step = calls.step()
        self._runs: dict[str, Thing] = {}
        self._models: dict[str, Thing] = {}
        self._experiments: dict[str, Thing] = {}
        for said in (step, *calls.notes()):
            self._note(said)
        for call in calls.all():
            self._hear(call)

    def run(self, run_id: str, name: str) -> Thing | None:
        run = self._runs.get(run_id)
        if run is None:
            return None
        self._see_to_files(run["info"], run_id)
        return {name: run["info"] if name == "run_info" else run}

    def model(self, model_id: str) -> Thing | None:
        model = self._models.get(model_id)
        if model is None:
            return None
        self._see_to_files(model["info"], model_id)
        return {"model": model}

    def experiment(self, matches: Callable[[Thing], bool]) -> Thing | None:
        return next(({"experiment": each} for each in self._experiments.values() if matches(each)), None)

    def _hear(self, call: UserCall) -> None:
        """Change what is known as the call would change it."""
        if call.made:
            self._note(_thing(call))
        elif call.api in {"FinalizeLoggedModel", "SetLoggedModelTags"}:
            self._change_model(call)
        elif run := self._runs.get(str(call.body.get("run_id", ""))):
            _change_run(run, call)

    def _note(self, said: Mapping[str, Any]) -> None:
        if "run" in said:
            self._runs[said["run"]["info"]["run_id"]] = said["run"]
        if "model" in said:
            self._models[said["model"]["info"]["model_id"]] = said["model"]
        if "experiment" in said:
            self._experiments[said["experiment"]["experiment_id"]] = said["experiment"]

    def _change_model(self, call: UserCall) -> None:
        model = self._models.get(call.path.split("/")[1])
        if model is None:
            return
        if "status" in call.body:
            model["info"]["status"] = call.body["status"]
        _merge(model["info"], "tags", call.body.get("tags", []))

    def _see_to_files(self, info: Thing, thing: str) -> None:
        if not info.get("artifact_uri") or urlsplit(info["artifact_uri"]).scheme in _BEHIND_THE_SERVER:
            info["artifact_uri"] = self._calls.files_of(thing)


def _thing(call: UserCall) -> Thing:
    """Write what a call makes as MLflow would."""
    body, now = call.body, round(time.time() * 1000)
    if call.api == "CreateExperiment":
        return {"experiment": {"experiment_id": call.made, "name": body["name"], "lifecycle_stage": "active"}}
    if call.api == "CreateLoggedModel":
        given = {name: body[name] for name in ("experiment_id", "name", "model_type", "source_run_id") if name in body}
        times = {"creation_timestamp_ms": now, "last_updated_timestamp_ms": now}
        info = {"model_id": call.made, "status": "LOGGED_MODEL_PENDING", "tags": list(body.get("tags", []))}
        return {"model": {"info": {**info, **given, **times}, "data": {"params": list(body.get("params", []))}}}
    info = {"run_id": call.made, "run_uuid": call.made, "status": "RUNNING", "lifecycle_stage": "active"}
    given = {name: body[name] for name in ("experiment_id", "run_name", "user_id", "start_time") if name in body}
    return {"run": {"info": {**info, **given}, "data": {"tags": list(body.get("tags", []))}}}


def _change_run(run: Thing, call: UserCall) -> None:
    body, data = call.body, run.setdefault("data", {})
    if call.api == "UpdateRun":
        run["info"].update({name: body[name] for name in ("status", "end_time", "run_name") if name in body})
    elif call.api in {"DeleteRun", "RestoreRun"}:
        run["info"]["lifecycle_stage"] = "deleted" if call.api == "DeleteRun" else "active"
    elif call.api == "LogBatch":
        for kind in ("params", "tags", "metrics"):
            _merge(data, kind, body.get(kind, []))
    elif call.api in _OF_ONE:
        _merge(data, _OF_ONE[call.api], [{name: body[name] for name in body if name not in {"run_id", "run_uuid"}}])


_OF_ONE = {"LogParam": "params", "SetTag": "tags", "LogMetric": "metrics"}


def _merge(data: Thing, kind: str, entries: list[Thing]) -> None:
    merged = {entry["key"]: entry for entry in [*data.get(kind, []), *entries]}
    data[kind] = list(merged.values())
