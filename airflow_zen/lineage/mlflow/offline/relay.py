"""Relay requests of MLflow's client in a step to the server, and keep them while the server is away."""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
import time
from collections.abc import Mapping
from http.client import parse_headers
from importlib.metadata import version
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl
from uuid import uuid4

from msgspec.structs import replace

from airflow_zen.lineage.mlflow.encoding import flatten_parameters, to_milliseconds
from airflow_zen.lineage.mlflow.errors import AWAY, MlflowUnavailable
from airflow_zen.lineage.mlflow.offline import EXPERIMENT_STAYS, RELAY_VARIABLE, STEP_VARIABLE, child_environment
from airflow_zen.lineage.mlflow.offline.known_entities import Document, KnownEntities
from airflow_zen.lineage.mlflow.offline.outbox import CREATION_TAG, Outbox, Request, encode_spans
from airflow_zen.lineage.mlflow.rest import API, MLFLOW_TIMEOUTS, SPANS, TRACES, HttpResponse, MlflowRest
from airflow_zen.lineage.mlflow.tags import experiment_name, run_name, step_tags
from airflow_zen.transports.timeouts import Timeouts

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.server import TrackingServer
    from airflow_zen.runs.step_run import StepRun

log = logging.getLogger("airflow_zen.lineage")

_CREATING = frozenset({"runs/create", "logged-models", "experiments/create"})
_LOGS_PARAMETERS = frozenset({"runs/log-parameter", "runs/log-batch"})
_CHANGED = frozenset({"runs/update", TRACES, *_LOGS_PARAMETERS})
_ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})
_CONTEXT_TAGS = ("mlflow.source.", "mlflow.user")
_PARENT_TAG, _TRACE_RUN = "mlflow.parentRunId", "mlflow.sourceRun"
_OF_A_CONNECTION = frozenset({"host", "connection", "content-length", "accept-encoding"})
# The server, a gateway or the credentials are at fault, and not the request.
_NOT_THE_REQUEST = frozenset({301, 302, 303, 307, 308, 401, 403, 408, 429, 500, 502, 503, 504})
# A server that takes longer is treated as unavailable: a step may log thousands of times.
_SLOW_SECONDS = 3.0
# Bytes of a request's first line, and seconds to wait for it: anyone on the host may send it.
_LONGEST_LINE, _FIRST_LINE_SECONDS = 65536, 10.0


class Relay(ThreadingTCPServer):
    """Serve MLflow's client in a step's processes until it is closed.

    After the first request to the tracking API that the server does not answer none is forwarded. `opened` describes
    the step's run in MLflow; without it none is forwarded at all.

    Everyone on the host reaches the port, so the address contains a token that only the step's environment has.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        server: TrackingServer,
        outbox: Outbox,
        run: StepRun,
        opened: Mapping[str, Any] | None = None,
        *,
        respect_set_experiment: bool = False,
    ) -> None:
        info = opened or {"run_id": uuid4().hex, "experiment_id": uuid4().hex}
        self.run_id, self.experiment_id = str(info["run_id"]), str(info["experiment_id"])
        self.token = secrets.token_urlsafe()
        self._outbox = outbox
        self._known = KnownEntities(outbox)
        self._away = opened is None
        self._respect_set_experiment = respect_set_experiment
        self._open_runs: dict[str, bool] = {}
        self._told: set[str] = set()
        self._experiment = experiment_name(run.id.dag_id)
        self._context = {key: tag for key, tag in step_tags(run, "").items() if tag and key.startswith(_CONTEXT_TAGS)}
        self._parameters = flatten_parameters(run.parameters)
        self._lock = Lock()
        self._rest = MlflowRest(server, Timeouts(MLFLOW_TIMEOUTS.connect, float(server.user_timeout)))
        created = {"run_name": run_name(run), "start_time": to_milliseconds(run.started)}
        self._keep(Request("POST", "experiments/create", {"name": self._experiment}, self.experiment_id))
        self._keep(Request("POST", "runs/create", {"experiment_id": self.experiment_id, **created}, self.run_id))
        if opened:
            self._known.learn({"run": {"info": dict(opened)}})
        super().__init__(("127.0.0.1", 0), BaseRequestHandler)
        Thread(target=self.serve_forever, name="airflow-zen-mlflow-relay", daemon=True).start()

    def environment(self) -> dict[str, str]:
        """Return the variables that direct MLflow's client to the step's run, and to the relay past any HTTP proxy."""
        step = {"run_id": self.run_id, "experiment_id": self.experiment_id, "process": os.getpid()}
        step["respect_set_experiment"] = self._respect_set_experiment
        direct = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1"]))
        return {
            **self._rest.server.environment(),
            **child_environment(),
            # Until MLflow gives ids, links that its client prints would lead nowhere.
            **({"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"} if self._away else {}),
            STEP_VARIABLE: json.dumps(step),
            # MLflow sets these tags on runs that it creates.
            "MLFLOW_RUN_CONTEXT": json.dumps(self._context),
            "MLFLOW_EXPERIMENT_ID": self.experiment_id,
            # Each would lead MLflow's client into a run or an experiment of its own.
            "MLFLOW_RUN_ID": "",
            "MLFLOW_EXPERIMENT_NAME": "",
            # MLflow's client waits longer for the relay than the relay for the server.
            "MLFLOW_HTTP_REQUEST_TIMEOUT": str(int(float(self._rest.server.user_timeout)) + 3),
            RELAY_VARIABLE: f"{self._rest.server.uri} http://127.0.0.1:{self.server_address[1]}/{self.token}",
            **dict.fromkeys(("no_proxy", "NO_PROXY"), direct),
        }

    def close(self) -> None:
        """Stop serving; return at once."""
        Thread(target=self._stop, daemon=True).start()

    def answer(self, method: str, target: str, headers: Mapping[str, str], content: bytes) -> HttpResponse:
        """Return the server's answer, or the replica's while it is unavailable; never store other users' requests."""
        is_foreign = self._rest.authorization not in {"", headers.get("Authorization")}
        request = None if is_foreign else self._parse(method, target, content)
        if not self._away:
            try:
                return self._forward(request, method, target, headers, content)
            except MlflowUnavailable as error:
                self._give_up(request, error)
        if is_foreign:
            return _error(401, "UNAUTHENTICATED", "These are not the credentials of the step's MLflow server.")
        if request and request.path == SPANS:
            request = replace(request, body=encode_spans(headers, content))
        return (request and self._keep(request)) or self._refuse(target.partition("?")[0])

    def run_ids(self) -> frozenset[str]:
        """Return the ids of the step's run and of the runs that its code created."""
        return frozenset({self.run_id, *self._open_runs})

    def end_runs(self, status: str) -> None:
        """End the runs that the step's code created and left open."""
        for run_id in [run_id for run_id, is_open in self._open_runs.items() if is_open]:
            body = {"run_id": run_id, "status": status, "end_time": round(time.time() * 1000)}
            request = Request("POST", "runs/update", body)
            try:
                if not self._away:
                    self._rest.post(request.path, body)
                    continue
            except MlflowUnavailable as error:
                self._give_up(request, error)
            self._keep(request)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answer one request; reject one without the token before its content is read."""
        request.settimeout(_FIRST_LINE_SECONDS)
        with request.makefile("rb") as file:
            method, _, rest = file.readline(_LONGEST_LINE).partition(b" /")
            token, _, rest = rest.partition(b"/")
            answer = HttpResponse(404, b"")
            if secrets.compare_digest(token, self.token.encode()):
                request.settimeout(None)
                target, headers = f"/{rest.split()[0].decode('ascii')}", parse_headers(file)
                content = file.read(int(headers.get("Content-Length", 0)))
                forwarded = {name: value for name, value in headers.items() if name.lower() not in _OF_A_CONNECTION}
                answer = self.answer(method.decode("ascii"), target, forwarded, content)
            head = b"HTTP/1.0 %d -\r\nContent-Type: application/json\r\n\r\n" % answer.status
            request.sendall(head + answer.body)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log the error, at debug level if no request arrived; MLflow's client gets no answer."""
        level = logging.DEBUG if isinstance(sys.exception(), TimeoutError) else logging.WARNING
        log.log(level, "A request of MLflow's client in the step failed: %r", sys.exception())

    def _parse(self, method: str, target: str, content: bytes) -> Request | None:
        """Return a request to the tracking API; an entity that it creates gets a tag, by which it is found again."""
        path, _, query = target.partition("?")
        if path == SPANS and method == "POST":
            return Request(method, path, {})
        if path.startswith(TRACES) and method != "GET":
            return Request(method, path, self._link_trace(json.loads(content or b"{}")))
        if not path.startswith(API):
            return None
        path = path.removeprefix(API)
        body = dict(parse_qsl(query)) if method == "GET" else json.loads(content or b"{}")
        created = uuid4().hex if method == "POST" and path in _CREATING else ""
        if created and path != "experiments/create":
            self._place(path, body)
            body["tags"] = [*body.get("tags", []), {"key": CREATION_TAG, "value": created}]
        if path == "runs/update":
            self._note_end(body)
        if path in _LOGS_PARAMETERS and body.get("run_id") == self.run_id:
            self._rename_parameters(body.get("params", [body]))
        return Request(method, path, body, created)

    def _place(self, path: str, body: Document) -> None:
        """Put a new entity into the step's experiment, and into the step's run or below it."""
        if not self._respect_set_experiment:
            self._say_other_experiment(str(body.get("experiment_id", self.experiment_id)))
            body["experiment_id"] = self.experiment_id
        if path == "logged-models":
            # MLflow's client links a model to the active run, and there is none before the first metric or parameter.
            body.setdefault("source_run_id", self.run_id)
        elif not any(tag["key"] == _PARENT_TAG for tag in body.get("tags", [])):
            body["tags"] = [*body.get("tags", []), {"key": _PARENT_TAG, "value": self.run_id}]

    def _say_other_experiment(self, wanted: str) -> None:
        """Log once that a program asks for another experiment: one with this package says so itself, and asks for the step's."""
        if wanted != self.experiment_id and (key := f"experiment {wanted}") not in self._told:
            self._told.add(key)
            log.warning(EXPERIMENT_STAYS, self._experiment, self._known.experiment_name(wanted))

    def _link_trace(self, body: Document) -> Document:
        """Link a trace to the step's run, where it was logged outside any run."""
        if "trace" in body:
            body["trace"]["trace_info"].setdefault("trace_metadata", {}).setdefault(_TRACE_RUN, self.run_id)
        return body

    def _note_end(self, body: Document) -> None:
        """Remove the end state from an update of the step's run, which the step sets; record the end of another run."""
        if body.get("run_id") == self.run_id:
            body.pop("status", None)
            body.pop("end_time", None)
        elif body.get("status") in _ENDED:
            self._open_runs[str(body.get("run_id"))] = False

    def _rename_parameters(self, entries: list[Document]) -> None:
        """Log a parameter that differs from the step's own under another name: MLflow never changes a parameter."""
        for entry in entries:
            key, value = str(entry.get("key")), str(entry.get("value", ""))
            own = self._parameters.get(key, value)
            if own == value:
                continue
            entry["key"] = f"logged.{key}"
            if key not in self._told:
                self._told.add(key)
                said = "MLflow changes no parameter, and the step's own %r is %r: what its code logs, %r, is %r."
                log.warning(said, key, own, value, entry["key"])

    def _forward(
        self, request: Request | None, method: str, target: str, headers: Mapping[str, str], content: bytes
    ) -> HttpResponse:
        """Return the server's answer; the replica stores it, in case it has to answer the next request."""
        began = time.monotonic()
        is_changed = request and (request.created or request.path in _CHANGED)
        body = _json(request.body) if request and is_changed else content
        response = self._rest.forward(method, target, headers, body)
        if request is None:
            return response
        if response.status in _NOT_THE_REQUEST or not (request.path == SPANS or response.body.startswith(b"{")):
            raise MlflowUnavailable(f"It answers {response.status} to {request.path!r}: {response.body[:200]!r}")
        with self._lock:
            entity = self._known.learn({} if request.path == SPANS else json.loads(response.body))
            if request.path == "runs/create" and response.status == 200:
                self._open_runs[entity["info"]["run_id"]] = True
        if time.monotonic() - began > _SLOW_SECONDS:
            self._give_up(request, MlflowUnavailable("It answers slowly."))
        return response

    def _give_up(self, request: Request | None, error: MlflowUnavailable) -> None:
        """Stop forwarding after a request to the tracking API failed."""
        if request and not self._away:
            log.warning("MLflow is unavailable: what the step logs from now on is stored, and sent later. %s", error)
            self._away = True

    def _keep(self, request: Request) -> HttpResponse | None:
        """Answer a request without the server, and store it if it changes something."""
        with self._lock:
            answer = self._known.answer(request)
            if answer is not None and request.method != "GET":
                self._outbox.append(request)
            if request.path == "runs/create" and request.created != self.run_id:
                self._open_runs[request.created] = True
        return None if answer is None else HttpResponse(200, _json(answer))

    def _refuse(self, path: str) -> HttpResponse:
        if path == "/api/3.0/mlflow/server-info":
            return HttpResponse(200, _json({"workspaces_enabled": bool(self._rest.server.workspace)}))
        if path == "/version":
            return HttpResponse(200, version("mlflow").encode())
        away = f"MLflow at {self._rest.server.uri!r} is away, and {path!r} needs its answer."
        if path == f"{API}experiments/get-by-name":
            # MLflow's client then creates the experiment; the replay finds one that exists.
            return _error(404, "RESOURCE_DOES_NOT_EXIST", away)
        remedy = "What a step logs can be sent later; see docs/lineage.md, 'When MLflow is away', for what cannot."
        return _error(501, AWAY, f"{away} {remedy}")

    def _stop(self) -> None:
        self.shutdown()
        self.server_close()


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


def _error(status: int, code: str, message: str) -> HttpResponse:
    return HttpResponse(status, _json({"error_code": code, "message": message}))
