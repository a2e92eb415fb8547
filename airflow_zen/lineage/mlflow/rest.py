"""A client of MLflow's REST API on the standard library: importing MLflow's own client takes 2 s of CPU."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from airflow_zen.lineage.mlflow.errors import MlflowRejected, MlflowUnavailable, error_from_response
from airflow_zen.lineage.mlflow.http import MLFLOW_TIMEOUTS, HttpResponse, KeepAliveConnection

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.server import TrackingServer
    from airflow_zen.transports.base import Timeouts

API = "/api/2.0/mlflow/"
_TRACES = "/v1/traces"
_ARTIFACT_PROXY = "/api/2.0/mlflow-artifacts/artifacts/"

# Each of these creates another entity when it is sent again.
_NON_IDEMPOTENT_PATHS = frozenset(API + path for path in ("runs/create", "logged-models", "model-versions/create"))

# An answer is slow when it takes longer, in seconds.
_SLOW_SECONDS = 1.0

# MLflow may need longer for more runs than we wait for an answer.
_RUNS_PER_PAGE = 100


class MlflowRest:
    """Send requests to one MLflow server; safe to use from several threads, each on its own connection.

    After the server was unavailable once, every later request fails at once with `MlflowUnavailable`.

    timeouts: how long to wait for the server. retry_after: seconds after which an unavailable server is tried again,
    for a process that must survive an outage; None: never. clock: returns monotonic seconds.
    """

    def __init__(
        self,
        server: TrackingServer,
        timeouts: Timeouts = MLFLOW_TIMEOUTS,
        retry_after: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.server = server
        self.request_count = 0
        self._timeouts = timeouts
        self._clock = clock
        self._retry_after = retry_after
        self._outage: tuple[float, MlflowUnavailable] | None = None
        self._slow_budget: float | None = None
        self._idle: list[KeepAliveConnection] = []
        self._lock = threading.Lock()
        self._base = urlsplit(server.uri).path.rstrip("/")
        self._headers = _headers(server)

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Read an entity; lists in `query` become repeated keys."""
        return self.request("GET", f"{path}?{urlencode(query, doseq=True)}" if query else path)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create, change or search entities."""
        return self.request("POST", path, body)

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change a part of an entity."""
        return self.request("PATCH", path, body)

    def delete(self, path: str) -> dict[str, Any]:
        """Delete an entity; MLflow keeps it in its trash."""
        return self.request("DELETE", path)

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a request to the tracking API and return the answer. Raises `MlflowUnavailable` or `MlflowRejected`."""
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode(errors="replace")
        answer = self._send(method, API + path, content, {"Content-Type": "application/json; charset=utf-8"})
        try:
            document = json.loads(answer.body or b"{}")
        except ValueError as error:
            raise MlflowRejected(
                f"{self.server.uri!r} did not answer {method} {API}{path} in JSON. Check whether an MLflow server, and "
                "not a login page or another site, is at this address.",
                answer.status,
            ) from error
        return document if isinstance(document, dict) else {}

    def paginate(
        self, path: str, search: Mapping[str, Any], name: str, method: str = "POST"
    ) -> Iterator[dict[str, Any]]:
        """Yield what a search finds under `name`; each page is requested when it is needed."""
        page: dict[str, Any] = dict(search)
        while True:
            answer = self.post(path, page) if method == "POST" else self.get(path, page)
            yield from answer.get(name, [])
            if not answer.get("next_page_token"):
                return
            page["page_token"] = answer["next_page_token"]

    def search_runs(self, experiment_id: str, condition: str) -> Iterator[dict[str, Any]]:
        """Yield the runs of an experiment that match a filter; one request for each 100."""
        search = {"experiment_ids": [experiment_id], "filter": condition, "max_results": _RUNS_PER_PAGE}
        return self.paginate("runs/search", search, "runs")

    def find_run(self, experiment_id: str, condition: str, order_by: str = "") -> dict[str, Any] | None:
        """Return the info of the first run that matches a filter; None where there is none."""
        search = {"experiment_ids": [experiment_id], "filter": condition, "max_results": 1}
        ordered = {**search, "order_by": [order_by]} if order_by else search
        runs = self.post("runs/search", ordered).get("runs", [])
        return dict(runs[0]["info"]) if runs else None

    def version(self) -> str:
        """Return the server's version."""
        return self._send("GET", "/version").body.decode(errors="replace").strip()

    def send_trace(self, spans: Mapping[str, Any], experiment_id: str, run_id: str) -> None:
        """Send spans, as OTLP JSON, to an experiment, linked to a run."""
        headers = {"x-mlflow-experiment-id": experiment_id, "x-mlflow-run-id": run_id}
        self._send("POST", _TRACES, json.dumps(spans).encode(), {"Content-Type": "application/json", **headers})

    def upload(self, path: str, content: bytes) -> None:
        """Store a file through the server's artifact proxy, for `mlflow-artifacts:` addresses."""
        self._send("PUT", _ARTIFACT_PROXY + path, content, {"Content-Type": "application/octet-stream"})

    def forward(self, method: str, target: str, headers: Mapping[str, str], content: bytes | None) -> HttpResponse:
        """Send a request unchanged and return any answer. Raises `MlflowUnavailable`."""
        with self._connection() as connection:
            self.request_count += 1
            at_most_once = target in _NON_IDEMPOTENT_PATHS
            return connection.send(method, self._base + target, content or None, headers, at_most_once)

    def close(self) -> None:
        """Close all idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def limit_slow_responses(self, seconds: float) -> None:
        """Treat the server as unavailable once slow answers have taken this many seconds in total from now on."""
        self._slow_budget = seconds

    @property
    def is_unavailable(self) -> bool:
        """Whether requests fail at once because the server was unavailable."""
        if self._outage and self._retry_after is not None and self._clock() - self._outage[0] >= self._retry_after:
            self._outage = None
        return self._outage is not None

    @property
    def authorization(self) -> str:
        """The value of the `Authorization` header; empty without credentials."""
        return self._headers.get("Authorization", "")

    def _send(
        self, method: str, path: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        if self.is_unavailable and self._outage:
            raise self._outage[1]
        sent_headers = self._headers if content is None else {**self._headers, **(headers or {})}
        began = self._clock()
        try:
            answer = self.forward(method, path, sent_headers, content)
        except MlflowUnavailable as error:
            self._outage = (self._clock(), error)
            raise
        self._charge_slow_response(self._clock() - began)
        if not 200 <= answer.status < 300:
            request = f"{method} {path.split('?', maxsplit=1)[0]}"
            raise error_from_response(self.server.uri, request, answer.status, answer.body, answer.location)
        return answer

    def _charge_slow_response(self, seconds: float) -> None:
        """Subtract a slow answer from the budget."""
        if self._slow_budget is None or seconds < _SLOW_SECONDS:
            return
        self._slow_budget -= seconds
        if self._slow_budget <= 0:
            message = f"MLflow at {self.server.uri!r} takes long to answer. Check whether it is overloaded."
            self._outage = (self._clock(), MlflowUnavailable(message))

    @contextmanager
    def _connection(self) -> Iterator[KeepAliveConnection]:
        with self._lock:
            kept = self._idle.pop() if self._idle else None
        connection = kept or KeepAliveConnection(self.server, self._timeouts, self._clock)
        try:
            yield connection
        finally:
            with self._lock:
                self._idle.append(connection)


def _headers(server: TrackingServer) -> dict[str, str]:
    headers = {"Accept": "application/json", "User-Agent": "airflow-zen"}
    if server.username and server.password:
        pair = base64.b64encode(f"{server.username}:{server.password}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    elif server.token:
        headers["Authorization"] = f"Bearer {server.token}"
    if server.workspace:
        headers["X-MLFLOW-WORKSPACE"] = server.workspace
    return headers
