"""HTTP requests to the servers of a local stack."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import httpx

from airflow_zen.errors import ZenError


class HttpError(ZenError, ConnectionError):
    """A server did not answer, or answered with an error.

    status: the HTTP status; 0 without an answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def request_json(
    method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout: float = 30
) -> Any:
    """Send one request; return the decoded JSON answer, or the text of another answer.

    timeout: seconds. Raises `HttpError`.
    """
    try:
        answer = _client().request(method, url, json=body, headers=headers, timeout=timeout)
    except httpx.HTTPError as error:
        raise HttpError(f"{method} {url} was not answered: {error}") from error
    if answer.is_error:
        raise HttpError(f"{method} {url} was answered with {answer.status_code}: {answer.text}", answer.status_code)
    is_json = answer.headers.get("Content-Type", "").startswith("application/json")
    return answer.json() if is_json and answer.content else answer.text


@cache
def _client() -> httpx.Client:
    """Return a client that uses no proxy of the environment, because the servers are on the loopback."""
    # A kept connection could belong to a server that has ended.
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(trust_env=False, follow_redirects=True, limits=limits, headers={"Accept": "application/json"})
