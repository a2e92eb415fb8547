"""Speak MLflow's REST interface with the standard library: importing MLflow's own client costs 2 s of CPU."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

from airflow_zen.lineage.mlflow.errors import MlflowRejected, MlflowUnavailable, error_from_response
from airflow_zen.lineage.mlflow.http import DEFAULT_HTTP_TIMEOUTS, HttpResponse, HttpTimeouts, KeepAliveConnection
from airflow_zen.lineage.mlflow.server import TrackingServer

__all__ = ["HttpTimeouts", "MlflowRejected", "MlflowRest", "MlflowUnavailable", "TrackingServer"]

_API = "/api/2.0/mlflow/"
# Each of these makes another one when it is sent again.
_NON_IDEMPOTENT_PATHS = frozenset(_API + path for path in ("runs/create", "logged-models", "model-versions/create"))
# An answer that takes longer than this, in seconds, is slow.
_SLOW_SECONDS = 1.0
_TRACES = "/v1/traces"
_ARTIFACT_PROXY = "/api/2.0/mlflow-artifacts/artifacts/"


class MlflowRest:
    """Send requests to one MLflow server; safe to use from several threads, each on its own connection.

    After the server was found to be away, every later request fails at once with `MlflowUnavailable`: for as
    long as this object lives, or for `retry_after` seconds where a process must outlive an outage. `request_count`
    counts the requests. `timeouts` bounds the waiting; `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        server: TrackingServer,
        timeouts: HttpTimeouts = DEFAULT_HTTP_TIMEOUTS,
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
        """Read; `query` becomes the query string, lists as repeated keys."""
        return self._json("GET", f"{_API}{path}?{urlencode(query or {}, doseq=True)}", None)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make or change; returns MLflow's answer. Raises `MlflowUnavailable` or `MlflowRejected`."""
        return self._json("POST", _API + path, body)

    def paginate(self, path: str, search: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
        """Give what a search finds under `name`, page after page; each page is asked for when it is needed."""
        request = dict(search)
        while True:
            answer = self.post(path, request)
            yield from answer.get(name, [])
            if not answer.get("next_page_token"):
                return
            request["page_token"] = answer["next_page_token"]

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change a part."""
        return self._json("PATCH", _API + path, body)

    def delete(self, path: str) -> dict[str, Any]:
        """Take away what lies at a path; MLflow keeps it in its trash."""
        return self._json("DELETE", _API + path, None)

    def version(self) -> str:
        """Give the server's version."""
        return self._send("GET", "/version", None, "").body.decode(errors="replace").strip()

    def request(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request that someone else has written down."""
        return self._json(method, _API + path, body)

    @property
    def authorization(self) -> str:
        """The credentials as an HTTP header has them; empty where there are none."""
        return self._headers.get("Authorization", "")

    def forward(self, method: str, target: str, headers: Mapping[str, str], content: bytes | None) -> HttpResponse:
        """Send a request as it is, and return any answer. Raises `MlflowUnavailable`."""
        with self._connection() as connection:
            self.request_count += 1
            at_most_once = target in _NON_IDEMPOTENT_PATHS
            return connection.send(method, self._base + target, content or None, headers, at_most_once)

    def send_trace(self, spans: Mapping[str, Any], experiment_id: str, run_id: str) -> None:
        """Enter spans, as OTLP JSON, into an experiment, linked to a run."""
        headers = {"x-mlflow-experiment-id": experiment_id, "x-mlflow-run-id": run_id}
        self._send("POST", _TRACES, json.dumps(spans).encode(), "application/json", headers)

    def upload(self, path: str, content: bytes) -> None:
        """Store a file through the server's artifact proxy, for `mlflow-artifacts:` addresses."""
        self._send("PUT", _ARTIFACT_PROXY + path, content, "application/octet-stream")

    def close(self) -> None:
        """Let all idle connections go."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def limit_slow_responses(self, seconds: float) -> None:
        """From now on wait at most so long for slow answers, all together; then the server is taken to be away."""
        self._slow_budget = seconds

    @property
    def is_unavailable(self) -> bool:
        """Tell whether requests fail at once because the server was found to be away."""
        if self._outage and self._retry_after is not None and self._clock() - self._outage[0] >= self._retry_after:
            self._outage = None
        return self._outage is not None

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode(errors="replace")
        answer = self._send(method, path.rstrip("?"), content, "application/json; charset=utf-8")
        try:
            document = json.loads(answer.body or b"{}")
        except ValueError as error:
            raise MlflowRejected(
                f"{self.server.uri!r} did not answer {method} {path} in JSON. See whether an MLflow server, and no "
                "login page or other site, is at this address.",
                answer.status,
            ) from error
        return document if isinstance(document, dict) else {}

    def _send(
        self,
        method: str,
        path: str,
        content: bytes | None,
        content_type: str,
        extra_headers: Mapping[str, str] | None = None,
    ) -> HttpResponse:
        if self.is_unavailable and self._outage:
            raise self._outage[1]
        headers = (
            self._headers
            if content is None
            else {**self._headers, "Content-Type": content_type, **(extra_headers or {})}
        )
        began = self._clock()
        try:
            answer = self.forward(method, path, headers, content)
        except MlflowUnavailable as error:
            self._outage = (self._clock(), error)
            raise
        self._charge_slow_response(self._clock() - began)
        if not 200 <= answer.status < 300:
            request = f"{method} {path.split('?', maxsplit=1)[0]}"
            raise error_from_response(self.server.uri, request, answer.status, answer.body, answer.location)
        return answer

    def _charge_slow_response(self, seconds: float) -> None:
        """Take a slow answer from what is allowed."""
        if self._slow_budget is None or seconds < _SLOW_SECONDS:
            return
        self._slow_budget -= seconds
        if self._slow_budget <= 0:
            slow = MlflowUnavailable(
                f"MLflow at {self.server.uri!r} takes long to answer. See whether it is overloaded."
            )
            self._outage = (self._clock(), slow)

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
