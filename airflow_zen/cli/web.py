"""JSON over HTTP with the standard library, to servers on this machine."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from airflow_zen.errors import ZenError

# A proxy of the environment must not see what is meant for the loopback.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class HttpError(ZenError, ConnectionError):
    """A server did not answer, or answered with an error.

    status: the HTTP status; 0 where there was no answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def request_json(
    method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout: float = 30
) -> Any:
    """Send one request; gives the decoded JSON answer, or the text of an answer in another form."""
    request = urllib.request.Request(  # noqa: S310 - every caller builds an http URL
        url,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Accept": "application/json", "Content-Type": "application/json", **(headers or {})},
    )
    try:
        with _OPENER.open(request, timeout=timeout) as answer:
            text = answer.read().decode()
            return json.loads(text) if answer.headers.get_content_type() == "application/json" and text else text
    except urllib.error.HTTPError as error:
        detail = error.read().decode(errors="replace")
        raise HttpError(f"{method} {url} was answered with {error.code}: {detail}", error.code) from error
    except OSError as error:
        raise HttpError(f"{method} {url} was not answered: {error}") from error
