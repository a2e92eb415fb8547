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

from airflow_zen.lineage.connection import DEFAULT_PATIENCE, Answer, KeptConnection, Patience
from airflow_zen.lineage.refusals import MlflowAway, MlflowRefused, refusal
from airflow_zen.lineage.tracking_server import TrackingServer

__all__ = ["MlflowAway", "MlflowRefused", "MlflowRest", "Patience", "TrackingServer"]

_API = "/api/2.0/mlflow/"
# Each of these makes another one when it is sent again.
_NEVER_TWICE = frozenset(_API + path for path in ("runs/create", "logged-models", "model-versions/create"))
# An answer that takes longer than this, in seconds, is slow.
_SLOW = 1.0
_TRACES = "/v1/traces"
_PROXY = "/api/2.0/mlflow-artifacts/artifacts/"


class MlflowRest:
    """Send requests to one MLflow server; safe to use from several threads, each on its own connection.

    After the server was found to be away, every later request fails at once with `MlflowAway`: for as
    long as this object lives, or for `pause` seconds where a process must outlive an outage. `sent`
    counts the requests. `patience` bounds the waiting; `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        server: TrackingServer,
        patience: Patience = DEFAULT_PATIENCE,
        pause: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.server = server
        self.sent = 0
        self._patience = patience
        self._clock = clock
        self._pause = pause
        self._away: tuple[float, MlflowAway] | None = None
        self._allowed: float | None = None
        self._idle: list[KeptConnection] = []
        self._lock = threading.Lock()
        self._base = urlsplit(server.uri).path.rstrip("/")
        self._headers = _headers(server)

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Read; `query` becomes the query string, lists as repeated keys."""
        return self._json("GET", f"{_API}{path}?{urlencode(query or {}, doseq=True)}", None)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make or change; returns MLflow's answer. Raises `MlflowAway` or `MlflowRefused`."""
        return self._json("POST", _API + path, body)

    def pages(self, path: str, search: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
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

    def send_trace(self, spans: Mapping[str, Any], experiment_id: str, run_id: str) -> None:
        """Enter spans, as OTLP JSON, into an experiment, linked to a run."""
        headers = {"x-mlflow-experiment-id": experiment_id, "x-mlflow-run-id": run_id}
        self._send("POST", _TRACES, json.dumps(spans).encode(), "application/json", headers)

    def upload(self, path: str, data: bytes) -> None:
        """Store a file through the server's artifact proxy, for `mlflow-artifacts:` addresses."""
        self._send("PUT", _PROXY + path, data, "application/octet-stream")

    def close(self) -> None:
        """Let all idle connections go."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def hurry(self, seconds: float) -> None:
        """From now on wait at most so long for slow answers, all together; then the server is taken to be away."""
        self._allowed = seconds

    @property
    def away(self) -> bool:
        """Tell whether requests fail at once because the server was found to be away."""
        if self._away and self._pause is not None and self._clock() - self._away[0] >= self._pause:
            self._away = None
        return self._away is not None

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode(errors="replace")
        answer = self._send(method, path.rstrip("?"), data, "application/json; charset=utf-8")
        try:
            document = json.loads(answer.body or b"{}")
        except ValueError as error:
            raise MlflowRefused(
                f"{self.server.uri!r} did not answer {method} {path} in JSON. See whether an MLflow server, and no "
                "login page or other site, is at this address.",
                answer.status,
            ) from error
        return document if isinstance(document, dict) else {}

    def _send(
        self, method: str, path: str, data: bytes | None, content_type: str, more: Mapping[str, str] | None = None
    ) -> Answer:
        if self.away and self._away:
            raise self._away[1]
        headers = self._headers if data is None else {**self._headers, "Content-Type": content_type, **(more or {})}
        began = self._clock()
        try:
            with self._connection() as connection:
                self.sent += 1
                answer = connection.send(method, self._base + path, data, headers, once=path in _NEVER_TWICE)
        except MlflowAway as error:
            self._away = (self._clock(), error)
            raise
        self._waited(self._clock() - began)
        if not 200 <= answer.status < 300:
            request = f"{method} {path.split('?', maxsplit=1)[0]}"
            raise refusal(self.server.uri, request, answer.status, answer.body, answer.location)
        return answer

    def _waited(self, seconds: float) -> None:
        """Take a slow answer from what is allowed."""
        if self._allowed is None or seconds < _SLOW:
            return
        self._allowed -= seconds
        if self._allowed <= 0:
            slow = MlflowAway(f"MLflow at {self.server.uri!r} takes long to answer. See whether it is overloaded.")
            self._away = (self._clock(), slow)

    @contextmanager
    def _connection(self) -> Iterator[KeptConnection]:
        with self._lock:
            kept = self._idle.pop() if self._idle else None
        connection = kept or KeptConnection(self.server, self._patience, self._clock)
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
