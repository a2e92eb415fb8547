"""Send to MLflow what user code told it while it was away."""

from __future__ import annotations

import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import asdict, replace

from airflow_zen.errors import ArtifactNotFound, SettingsError
from airflow_zen.lineage.mlflow.encoding import MAX_BATCH_ENTRIES
from airflow_zen.lineage.mlflow.errors import MlflowRejected, MlflowUnavailable
from airflow_zen.lineage.mlflow.models import copy_files
from airflow_zen.lineage.mlflow.offline.call_log import CALL_TAG, CALLS, FILES, STEP, UserCall, UserCalls, read_calls
from airflow_zen.lineage.mlflow.run_files import put_run_files
from airflow_zen.lineage.mlflow.tags import quote_filter_value
from airflow_zen.transports.base import Transport, quote_key_part

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.rest import MlflowRest
    from airflow_zen.runs.step_run import StepRunId

log = logging.getLogger("airflow_zen.lineage")


class _Sending(msgspec.Struct):
    """How far the sending of one step's calls has come; `ids` are MLflow's ids by those that user code knows."""

    prefix: str
    step_run: str
    ids: dict[str, str]
    until: float
    models: set[str] = msgspec.field(default_factory=set)
    refused: list[dict[str, Any]] = msgspec.field(default_factory=list)

    def real(self, text: str) -> str:
        for known, real in self.ids.items():
            text = text.replace(known, real)
        return text


class UserReplay:
    """Keep a step's own calls in the store under `runs/<dag>/<run>/calls/`, and send them when MLflow is there."""

    def __init__(self, rest: MlflowRest, transport: Transport, artifact_root: str) -> None:
        self._rest = rest
        self._transport = transport
        self._root = artifact_root

    def keep(self, run: StepRunId, calls: UserCalls) -> bool:
        """Put the calls into the store; tell whether there were any."""
        if calls.empty:
            return False
        self._transport.publish(calls.folder, _prefix(run), CALLS)
        return True

    def send(self, run: StepRunId, run_id: str, experiment_id: str, within: float = float("inf")) -> None:
        """Send what the store holds of a step run, into its run in MLflow, and forget it; sending it twice is no harm.

        What MLflow finds wrong in itself is set aside beside the calls, as `<map index>.<try>.refused.jsonl`.
        Raises `MlflowUnavailable`, also after `within` seconds, and `MlflowRejected` for missing permissions.
        """
        prefix = _prefix(run)
        try:
            lines = self._transport.read(f"{prefix}/{CALLS}")
        except ArtifactNotFound:
            return
        step = json.loads(self._transport.read(f"{prefix}/{STEP}"))
        ids = {step["run"]["info"]["run_id"]: run_id, step["experiment"]["experiment_id"]: experiment_id}
        sending = _Sending(prefix, run_id, ids, time.monotonic() + within)
        for call in batched(read_calls(lines)):
            self._send(call, sending)
        self._send_files(sending)
        if sending.refused:
            self._set_aside(run, sending)
        self._transport.delete([*self._transport.list(prefix)])

    def _send(self, call: UserCall, sending: _Sending) -> None:
        if time.monotonic() > sending.until:
            raise MlflowUnavailable("MLflow takes long to take what the step logged; the rest is sent later.")
        real = replace(call, path=sending.real(call.path), body=json.loads(sending.real(json.dumps(call.body))))
        try:
            self._do(real, sending)
        except MlflowRejected as error:
            if not error.is_client_error:
                raise
            if call.api == "LogOutputs" and "IntegrityError" in str(error):
                return
            single = parts(call)
            for part in single if len(single) > 1 else ():
                self._send(part, sending)
            if len(single) == 1:
                sending.refused.append({**asdict(real), "error": str(error)})

    def _do(self, call: UserCall, sending: _Sending) -> None:
        if call.made:
            sending.ids[call.made] = made = self._make(call)
            sending.models |= {made} if call.api == "CreateLoggedModel" else set()
        elif (body := _without_our_end(call, sending.step_run)) is not None:
            self._rest.request(call.method, call.path, body)

    def _make(self, call: UserCall) -> str:
        """Make a run, model or experiment, or find what an earlier attempt made; give its id."""
        if call.api == "CreateExperiment":
            return self._experiment(call)
        search = {
            "experiment_ids": [call.body.get("experiment_id", "0")],
            "filter": f"tags.`{CALL_TAG}` = {quote_filter_value(call.made)}",
            "max_results": 1,
        }
        kind, name, key = _KINDS[call.api]
        found = self._rest.post(f"{kind}/search", search).get(f"{name}s", [])
        made = found[0] if found else self._rest.post(call.path, call.body)[name]
        return str(made["info"][key])

    def _experiment(self, call: UserCall) -> str:
        try:
            return str(self._rest.post(call.path, call.body)["experiment_id"])
        except MlflowRejected as error:
            if not error.already_exists:
                raise
        found = self._rest.get("experiments/get-by-name", {"experiment_name": call.body["name"]})
        return str(found["experiment"]["experiment_id"])

    def _send_files(self, sending: _Sending) -> None:
        for thing, names in self._files(sending.prefix).items():
            real = sending.real(thing)
            source = f"{sending.prefix}/{FILES}/{thing}/artifacts"
            models = [name for name in names if name.rpartition("/")[2] == "MLmodel"]
            changed = {
                name: sending.real(self._transport.read(f"{source}/{name}").decode()).encode() for name in models
            }
            try:
                place = self._place(real, real in sending.models or real.startswith("m-"))
                copy_files(place, source, [name for name in names if name not in changed], self._transport, self._rest)
                put_run_files(place, changed, self._transport, self._root, self._rest)
            except SettingsError as error:
                sending.refused.append({"files": [f"{thing}/{name}" for name in names], "error": str(error)})

    def _files(self, prefix: str) -> Mapping[str, list[str]]:
        names = defaultdict(list)
        for key in self._transport.list(f"{prefix}/{FILES}"):
            thing, _, name = key.removeprefix(f"{prefix}/{FILES}/").partition("/artifacts/")
            names[thing].append(name)
        return names

    def _place(self, thing: str, model: bool) -> str:
        if model:
            return str(self._rest.get(f"logged-models/{thing}")["model"]["info"]["artifact_uri"])
        return str(self._rest.get("runs/get", {"run_id": thing})["run"]["info"]["artifact_uri"])

    def _set_aside(self, run: StepRunId, sending: _Sending) -> None:
        key = f"{_prefix(run)}.refused.jsonl"
        lines = [json.dumps(refused, ensure_ascii=False) for refused in sending.refused]
        self._transport.write(key, "\n".join(lines).encode())
        log.warning(
            "MLflow refuses %d of the calls that the code of %s made while it was away, first: %s They are in %r.",
            len(lines),
            run,
            sending.refused[0]["error"],
            f"{self._root}/{key}",
        )


_KINDS = {"CreateRun": ("runs", "run", "run_id"), "CreateLoggedModel": ("logged-models", "model", "model_id")}


def _prefix(run: StepRunId) -> str:
    place = f"runs/{quote_key_part(run.dag_id)}/{quote_key_part(run.run_id)}/calls/{quote_key_part(run.task_id)}"
    return f"{place}/{run.map_index}.{run.try_number}"


def _without_our_end(call: UserCall, step_run: str) -> Mapping[str, Any] | None:
    """Leave the state of the step's own run to the step; None where nothing else is said."""
    if call.api != "UpdateRun" or call.body.get("run_id") != step_run:
        return call.body
    return {"run_id": step_run, "run_name": call.body["run_name"]} if call.body.get("run_name") else None


# The most of each kind that one request may hold; MLflow takes 1000 of all together.
_ROOM = {"metrics": 700, "params": MAX_BATCH_ENTRIES, "tags": MAX_BATCH_ENTRIES}
_KIND = {"LogMetric": "metrics", "LogParam": "params", "SetTag": "tags"}
_PATH = "runs/log-batch"


def batched(calls: Iterable[UserCall]) -> Iterator[UserCall]:
    """Join calls that follow each other and log into the same run, as far as one request has room."""
    waiting: UserCall | None = None
    for call in map(_as_batch, calls):
        joined = _joined(waiting, call) if waiting else None
        if joined is None and waiting:
            yield waiting
        waiting = joined or call
    if waiting:
        yield waiting


def parts(call: UserCall) -> list[UserCall]:
    """Take a batch apart, one entry each; a call of another kind is its only part."""
    if call.path != _PATH:
        return [call]
    return [
        replace(call, body={"run_id": call.body["run_id"], kind: [entry]})
        for kind in _ROOM
        for entry in call.body.get(kind, [])
    ]


def _as_batch(call: UserCall) -> UserCall:
    kind = _KIND.get(call.api)
    if kind is None:
        return call
    entry = {name: value for name, value in call.body.items() if name not in {"run_id", "run_uuid"}}
    return UserCall("LogBatch", "POST", _PATH, {"run_id": call.body["run_id"], kind: [entry]})


def _joined(first: UserCall, second: UserCall) -> UserCall | None:
    if (first.path, second.path) != (_PATH, _PATH) or first.body["run_id"] != second.body["run_id"]:
        return None
    body: Mapping[str, Any] = {kind: [*first.body.get(kind, []), *second.body.get(kind, [])] for kind in _ROOM}
    if any(len(body[kind]) > room for kind, room in _ROOM.items()) or _twice(body["tags"]):
        return None
    return replace(first, body={"run_id": first.body["run_id"], **body})


def _twice(tags: list[Mapping[str, Any]]) -> bool:
    """Tell whether a tag is set twice, of which the later one counts."""
    return len({tag["key"] for tag in tags}) < len(tags)
