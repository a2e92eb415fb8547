"""The MLflow server of a local stack: MLflow's own, with a password, and with its assistant hidden on every page."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from mlflow.server.fastapi_app import app as mlflow_app

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# MLflow opens the assistant's pane over a quarter of the page if the host is local, and has no option against it.
_HEAD_END = b"</head>"
_STYLE = b"<style>[data-assistant-ui]{display:none!important}</style>"


_CHALLENGE = b'Basic realm="MLflow of a local stack", charset="UTF-8"'


class WithPassword:
    """An ASGI application that accepts only the user of the stack, because other users of the machine reach the port.

    Requests for `/health`, which tests whether the server is ready, need no password.
    """

    def __init__(self, application: Callable[..., Awaitable[None]], user: str, password: str) -> None:
        self._application = application
        self._expected = b"Basic " + base64.b64encode(f"{user}:{password}".encode())

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass on a request with the password; answer any other with status 401."""
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        is_open = scope["type"] == "lifespan" or scope.get("path") == "/health"
        if is_open or secrets.compare_digest(given, self._expected):
            await self._application(scope, receive, send)
            return
        headers = [(b"www-authenticate", _CHALLENGE), (b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": b"`airflow zen stack up local` prints user and password."})


class WithoutAssistant:
    """An ASGI application whose page hides the elements of MLflow's assistant."""

    def __init__(self, application: Callable[..., Awaitable[None]]) -> None:
        self._application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request; add the style to MLflow's page."""
        is_page = scope["type"] == "http" and scope["path"] == "/"
        await self._application(scope, receive, _PageSender(send) if is_page else send)


class _PageSender:
    """Delay the start of an answer until its body is complete, because the style changes its length."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message = {}
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        page = self._body.replace(_HEAD_END, _STYLE + _HEAD_END, 1)
        headers = [
            pair for pair in self._start["headers"] if page == self._body or pair[0].lower() != b"content-length"
        ]
        if page != self._body:
            headers.append((b"content-length", str(len(page)).encode()))
        await self._send({**self._start, "headers": headers})
        await self._send({"type": "http.response.body", "body": page})


def _password() -> tuple[str, str]:
    """Return user and password of the stack, which the server shares with MLflow's clients."""
    return os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]


app = WithPassword(WithoutAssistant(mlflow_app), *_password())
