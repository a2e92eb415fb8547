"""Requests that a step's code sent while MLflow was unavailable: kept in the journal, then in the store, and replayed."""

from __future__ import annotations

import json
import logging
import time
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import asdict, replace

from airflow_zen.errors import ArtifactNotFound, SettingsError
from airflow_zen.lineage.mlflow.errors import MlflowRejected, MlflowUnavailable
from airflow_zen.lineage.mlflow.model_versions import versions_of_content
from airflow_zen.lineage.mlflow.rest import SET_VERSION_TAG, SPANS, MlflowRest
from airflow_zen.lineage.mlflow.run_files import copy_files, put_run_files
from airflow_zen.lineage.mlflow.tags import quote_filter_value
from airflow_zen.transports.base import Transport, quote_key_part

if TYPE_CHECKING:
    from airflow_zen.runs.step_run import StepRunId

log = logging.getLogger("airflow_zen.lineage")

# The tag by which a run or model that a request created is found again; MLflow's pages hide tags that begin like this.
CREATION_TAG = "mlflow.zen.call"
_METRIC, _BATCH, _METRICS_PER_BATCH = "runs/log-metric", "runs/log-batch", 1000
_SPAN_HEADERS = frozenset({"content-type", "content-encoding", "x-mlflow-experiment-id", "x-mlflow-run-id"})
_REQUESTS, _FILES = "requests.jsonl", "files"
_DIGEST_LENGTH = 64


class Request(msgspec.Struct, frozen=True):
    """A request to MLflow's REST API; a `path` without a leading slash follows `/api/2.0/mlflow/`.

    `created` is the local id of the entity that the request creates, which the step's code uses until MLflow assigns
    its own.
    """

    method: str
    path: str
    body: Mapping[str, Any]
    created: str = ""

    def entry(self) -> dict[str, Any]:
        """Return the one metric, parameter or tag that the request logs."""
        return {name: value for name, value in self.body.items() if name not in {"run_id", "run_uuid"}}


def encode_spans(headers: Mapping[str, str], content: bytes) -> dict[str, Any]:
    """Return spans in OTLP's protobuf encoding, and the headers that belong to them, as JSON."""
    kept = {name: value for name, value in headers.items() if name.lower() in _SPAN_HEADERS}
    return {"headers": kept, "content": b64encode(content).decode()}


def decode_spans(body: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    """Return the content and the headers that `encode_spans` was given."""
    return b64decode(body["content"]), body["headers"]


class Outbox(msgspec.Struct, frozen=True):
    """Requests in order, and the files of runs and models.

    The first two requests represent the step's experiment and run, which the recorder creates.
    """

    directory: Path

    def append(self, request: Request) -> None:
        """Append a request with one unbuffered write."""
        with (self.directory / _REQUESTS).open("ab", buffering=0) as file:
            file.write(json.dumps(asdict(request)).encode() + b"\n")

    def logged(self) -> list[Request]:
        """Return the requests of the step's code."""
        with suppress(FileNotFoundError):
            return _parse_requests((self.directory / _REQUESTS).read_bytes())[2:]
        return []

    def end_runs(self, milliseconds: int) -> None:
        """End as KILLED the runs that the step's code started and its killed process could not end."""
        logged = self.logged()
        ended = {each.body.get("run_id") for each in logged if each.path == "runs/update" and "status" in each.body}
        for request in logged:
            if request.path == "runs/create" and request.created not in ended:
                end = {"run_id": request.created, "status": "KILLED", "end_time": milliseconds}
                self.append(Request("POST", "runs/update", end))

    def files_of(self, entity_id: str) -> str:
        """Return the directory for the files of a run or model."""
        return str(self.directory / _FILES / entity_id / "artifacts")


def _parse_requests(lines: bytes) -> list[Request]:
    """Parse a file of requests; an incomplete last line, left by a machine that crashed, is ignored."""
    return [Request(**json.loads(line)) for line in lines[: lines.rfind(b"\n") + 1].splitlines()]


class Replay:
    """Store the outboxes of step runs under `runs/<dag>/<run>/outbox/`, and send them."""

    def __init__(self, rest: MlflowRest, transport: Transport, artifact_root: str) -> None:
        self._rest = rest
        self._transport = transport
        self._root = artifact_root

    def keep(self, step: StepRunId, outbox: Outbox) -> bool:
        """Store the outbox; return whether it holds anything."""
        if not outbox.logged() and not (outbox.directory / _FILES).exists():
            return False
        self._transport.publish(outbox.directory, _prefix(step), _REQUESTS)
        return True

    def send(self, step: StepRunId, run_id: str, experiment_id: str, within: float = float("inf")) -> None:
        """Send the stored outbox of a step run into its run in MLflow, and delete it; sending twice is harmless.

        Requests that MLflow rejects are stored in `<map index>.<try>.refused.jsonl`. Raises `MlflowUnavailable`, also
        after `within` seconds, and `MlflowRejected` for missing permissions.
        """
        prefix = _prefix(step)
        try:
            experiment, run, *logged = _parse_requests(self._transport.read(f"{prefix}/{_REQUESTS}"))
        except ArtifactNotFound:
            return
        ids = {experiment.created: experiment_id, run.created: run_id}
        sender = _Sender(self._rest, ids, time.monotonic() + within)
        for request in _batched(logged):
            sender.send(request)
        self._send_files(f"{prefix}/{_FILES}", sender)
        if sender.refused:
            key, lines = f"{prefix}.refused.jsonl", [json.dumps(each, ensure_ascii=False) for each in sender.refused]
            self._transport.write(key, "\n".join(lines).encode())
            place, first = f"{self._root}/{key}", sender.refused[0]["error"]
            log.warning("MLflow refuses %d of a step's requests, now in %r. The first: %s", len(lines), place, first)
        self._transport.delete([*self._transport.list(prefix)])

    def _send_files(self, prefix: str, sender: _Sender) -> None:
        """Copy files to the artifact address of the run or model, with MLflow's ids in files named `MLmodel`."""
        start = len(prefix) + 1
        for entity_id, keys in groupby([*self._transport.list(prefix)], lambda key: key[start:].partition("/")[0]):
            source = f"{prefix}/{entity_id}/artifacts"
            names = [key.removeprefix(f"{source}/") for key in keys]
            models = [name for name in names if name.rpartition("/")[2] == "MLmodel"]
            real = {name: sender.real(self._transport.read(f"{source}/{name}").decode()).encode() for name in models}
            target = sender.artifact_uri(entity_id)
            try:
                copy_files(target, source, [name for name in names if name not in real], self._transport, self._rest)
                put_run_files(target, real, self._transport, self._root, self._rest)
            except SettingsError as error:
                sender.refused.append({"files": names, "of": entity_id, "error": str(error)})


class _Sender(msgspec.Struct):
    """Send requests in order; `ids` maps the local ids of the step's code to those of MLflow."""

    rest: MlflowRest
    ids: dict[str, str]
    until: float
    refused: list[dict[str, Any]] = []

    def real(self, text: str) -> str:
        """Replace local ids in a text; ids of experiments are left, because they are as short as other words."""
        for known, real in self.ids.items():
            text = text.replace(known, real) if len(known) == 32 else text
        return text

    def artifact_uri(self, known: str) -> str:
        """Return the artifact address of a run or model in MLflow."""
        real = self.real(known)
        if real.startswith("m-"):
            return str(self.rest.get(f"logged-models/{real}")["model"]["info"]["artifact_uri"])
        return str(self.rest.get("runs/get", {"run_id": real})["run"]["info"]["artifact_uri"])

    def send(self, request: Request) -> None:
        """Send a request; if MLflow rejects a batch, send each entry on its own, and record the rejected ones."""
        if time.monotonic() > self.until:
            raise MlflowUnavailable("MLflow accepts the requests of the step slowly; the rest is sent later.")
        body = json.loads(self.real(json.dumps(request.body)))
        real = replace(request, path=self.real(request.path), body=body)
        try:
            self._send(real)
        except MlflowRejected as error:
            # Outputs that MLflow has already are no error.
            if real.path == "runs/outputs" and "IntegrityError" in str(error):
                return
            if not error.is_client_error:
                raise
            parts = _split(real)
            for part in parts:
                self.send(part)
            if not parts:
                self.refused.append({**asdict(real), "error": str(error)})

    def _send(self, request: Request) -> None:
        if request.created:
            self.ids[request.created] = self._created(request)
        elif request.path == SPANS:
            self.rest.send_spans(*decode_spans(request.body))
        elif request.path == SET_VERSION_TAG and len(digest := str(request.body["version"])) == _DIGEST_LENGTH:
            self._tag_content(digest, request)
        else:
            self.rest.request(request.method, request.path, request.body)

    def _tag_content(self, digest: str, request: Request) -> None:
        """Tag the version of a content, which had none in MLflow, or was not asked for, when the request was made."""
        name = str(request.body["name"])
        found = versions_of_content(self.rest, name, digest)
        if found:
            self.rest.request(request.method, request.path, {**request.body, "version": found[0]["version"]})
        elif self.until < float("inf"):
            raise MlflowUnavailable(f"Model {name!r} has no version {digest[:12]!r} yet; its tag is sent later.")
        else:
            log.info("Model %r has no version of content %r that could have a tag.", name, digest[:12])

    def _created(self, request: Request) -> str:
        """Create a run, model or experiment, or find the one that an earlier attempt created; return its id."""
        kind = request.path.partition("/")[0]
        if kind == "experiments":
            try:
                return str(self.rest.post(request.path, request.body)["experiment_id"])
            except MlflowRejected as error:
                if not error.already_exists:
                    raise
            known = self.rest.get("experiments/get-by-name", {"experiment_name": request.body["name"]})
            return str(known["experiment"]["experiment_id"])
        entity, key = ("run", "run_id") if kind == "runs" else ("model", "model_id")
        experiment_id = request.body.get("experiment_id", "0")
        body = {**request.body, "experiment_id": self.ids.get(experiment_id, experiment_id)}
        tagged = f"tags.`{CREATION_TAG}` = {quote_filter_value(request.created)}"
        search = {"experiment_ids": [body["experiment_id"]], "filter": tagged, "max_results": 1}
        found = self.rest.post(f"{kind}/search", search).get(f"{entity}s", [])
        return str((found[0] if found else self.rest.post(request.path, body)[entity])["info"][key])


def _batched(requests: Iterable[Request]) -> Iterator[Request]:
    """Join consecutive metrics of one run into one request."""
    for run_id, group in groupby(requests, lambda each: each.body["run_id"] if each.path == _METRIC else None):
        if run_id is None:
            yield from group
            continue
        metrics = [request.entry() for request in group]
        for first in range(0, len(metrics), _METRICS_PER_BATCH):
            yield Request("POST", _BATCH, {"run_id": run_id, "metrics": metrics[first : first + _METRICS_PER_BATCH]})


def _split(request: Request) -> list[Request]:
    """Return a request for each of several metrics, parameters and tags."""
    kinds = ("metrics", "params", "tags") if request.path == _BATCH else ()
    entries = [{kind: [entry]} for kind in kinds for entry in request.body.get(kind, [])]
    alone = [replace(request, body={"run_id": request.body["run_id"], **entry}) for entry in entries]
    return alone if len(alone) > 1 else []


def _prefix(step: StepRunId) -> str:
    parent = f"runs/{quote_key_part(step.dag_id)}/{quote_key_part(step.run_id)}/outbox/{quote_key_part(step.task_id)}"
    return f"{parent}/{step.map_index}.{step.try_number}"
