"""The gateway: passes requests on to the server that is active for a deployment, and logs predictions."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from airflow_zen.deployment.prediction_log import Prediction, PredictionLog
from airflow_zen.deployment.replica import Replica

log = logging.getLogger("airflow_zen.deployment")

MAX_LOGGED_BYTES = 1024**2
"""The size of a request, and of an answer, above which it is not in the prediction log."""

_HOP_BY_HOP = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
        "authorization",
    ]
)
_UPSTREAM_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10)
_CHUNK = 64 * 1024
_MAX_EVENTS = 10_000
# Servers close idle connections after 5 seconds, as uvicorn does: a connection that old is not used again.
_KEEP_ALIVE = 2.0


class Gateway:
    """Route requests by the first part of their path: `/<deployment>/…`, `/log/<model>`; `active` are the servers.

    log_tokens: the tokens of which one must be sent to `/log/<model>`; None if none is needed.
    """

    def __init__(self, predictions: PredictionLog, log_tokens: Sequence[str] | None = None) -> None:
        self.active: dict[str, Replica] = {}
        self.predictions = predictions
        self._log_tokens = log_tokens
        self._session: aiohttp.ClientSession | None = None
        self._events: dict[str, tuple[float, bytes]] = {}

    async def close(self) -> None:
        """Close the connections to the servers."""
        if self._session is not None:
            await self._session.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request to a deployment."""
        _, name, rest = f"{request.raw_path}/".split("/", 2)
        path = f"/{rest[:-1]}"
        if name == "log":
            return await self._take_event(request, path)
        replica = self.active.get(name)
        if replica is None:
            known = ", ".join(sorted(self.active)) or "none"
            return error_answer(404, f"There is no deployment {name!r}. There are: {known}.")
        if not _is_allowed(request, replica.spec.request.token):
            return error_answer(
                401, f"Deployment {name!r} needs the token of its connection as 'Authorization: Bearer'."
            )
        return await self._forward(request, replica, path)

    async def _forward(self, request: web.BaseRequest, replica: Replica, path: str) -> web.StreamResponse:
        body, at, started = await request.content.read(), time.time(), time.perf_counter()
        name = replica.spec.request.name
        # A server that was replaced while the body arrived has ended perhaps.
        for attempt in range(2):
            replica = self.active.get(name, replica)
            with replica.answering():
                try:
                    response, answer = await self._send(request, replica, path, body)
                except aiohttp.ClientError as error:
                    if attempt == 0:
                        continue
                    log.warning("Deployment %r did not answer %s: %r", name, path, error)
                    break
            if response.status == 200 and path == replica.predict_path:
                self._log(replica, at, time.perf_counter() - started, body, answer)
            return response
        return error_answer(
            503, f"The server of {name!r} is being started again: {replica.state}.", {"Retry-After": "2"}
        )

    async def _send(
        self, request: web.BaseRequest, replica: Replica, path: str, body: bytes
    ) -> tuple[web.StreamResponse, bytes]:
        """Return the server's answer and its body; a streamed body is passed on, and not returned."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE)
            options: dict[str, Any] = {"auto_decompress": False, "timeout": _UPSTREAM_TIMEOUT, "trust_env": False}
            self._session = aiohttp.ClientSession(connector=connector, **options)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        send = self._session.request(
            request.method, f"{replica.url}{path}", data=body, headers=headers, allow_redirects=False
        )
        async with send as answer:
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP]
            if answer.content_length is not None:
                found = await answer.read()
                response = web.Response(status=answer.status, body=found)
                response.headers.clear()
                response.headers.extend(kept)
                return response, found
            stream = web.StreamResponse(status=answer.status)
            stream.headers.extend(kept)
            await stream.prepare(request)
            try:
                async for chunk in answer.content.iter_chunked(_CHUNK):
                    await stream.write(chunk)
            except aiohttp.ClientError:
                # What the client has got cannot be taken back: the connection is closed before the end.
                stream.force_close()
            return stream, b""

    def _log(self, replica: Replica, at: float, latency: float, body: bytes, answer: bytes) -> None:
        asked = replica.spec.request
        if asked.log_predictions and answer and max(len(body), len(answer)) <= MAX_LOGGED_BYTES:
            found = Prediction(asked.model, asked.version, asked.name, at, latency, body, answer)
            self.predictions.add(asked.stack, found)

    async def _take_event(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Log what KServe's or Seldon's logger sends: a request and its answer as CloudEvents with one id.

        The address is `/log/<model>`, with `version`, `deployment` and `stack` as its query where they are known, and `token`.
        """
        if not self._may_log(request.query.get("token", "")):
            return error_answer(
                401, "The URL of a logger needs ?token=…; see docs/deployment.md, 'The prediction log'."
            )
        event, kind = request.headers.get("ce-id", ""), request.headers.get("ce-type", "")
        if not event or not kind.endswith(("request", "response")):
            return error_answer(400, f"A CloudEvent has ce-id, and a ce-type of a request or response, got {kind!r}.")
        body, now = await request.content.read(), time.time()
        if kind.endswith("request"):
            while len(self._events) >= _MAX_EVENTS:
                self._events.pop(next(iter(self._events)))
                self.predictions.dropped += 1
            self._events[event] = (now, body)
        elif before := self._events.pop(event, None):
            query, (at, asked) = request.query, before
            version, name = query.get("version", ""), query.get("deployment", "")
            model = path.partition("?")[0].strip("/")
            found = Prediction(model, version, name, at, now - at, asked, body)
            self.predictions.add(query.get("stack", ""), found)
        return web.Response(status=202)

    def _may_log(self, token: str) -> bool:
        wanted = self._log_tokens
        return wanted is None or any(hmac.compare_digest(token.encode(), each.encode()) for each in wanted)


def error_answer(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an answer with an error in JSON."""
    text = msgspec.json.encode({"error": message})
    return web.Response(status=status, body=text, content_type="application/json", headers=headers)


def json_answer(value: Any, status: int = 200) -> web.Response:
    """Return an answer in JSON."""
    return web.Response(status=status, body=msgspec.json.encode(value, enc_hook=str), content_type="application/json")


def token_hash(token: str) -> str:
    """Return the stored hash of a token; empty for none."""
    return hashlib.sha256(token.encode()).hexdigest() if token else ""


def _is_allowed(request: web.BaseRequest, wanted: str) -> bool:
    if not wanted:
        return True
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return hmac.compare_digest(token_hash(given), wanted)
