"""The errors of requests to an MLflow server."""

from __future__ import annotations

import json

from airflow_zen.errors import LineageError

AWAY = "TEMPORARILY_UNAVAILABLE"
"""The error code of a step's relay for what only the server can answer, while it is away."""


class MlflowUnavailable(LineageError):
    """The MLflow server cannot be reached, or did not answer in time."""


class MlflowRejected(LineageError):
    """The MLflow server refused a request; `status` is HTTP's, `error_code` MLflow's own."""

    def __init__(self, message: str, status: int, error_code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code

    @property
    def is_client_error(self) -> bool:
        """Whether the request is at fault, and neither the server nor missing permissions."""
        return 400 <= self.status < 500 and self.status not in {401, 403, 408, 429}

    @property
    def is_missing(self) -> bool:
        """Whether the requested entity does not exist."""
        return self.error_code == "RESOURCE_DOES_NOT_EXIST"

    @property
    def already_exists(self) -> bool:
        """Whether the entity to be created exists already."""
        return self.error_code == "RESOURCE_ALREADY_EXISTS"


def error_from_response(server: str, request: str, status: int, body: bytes, location: str = "") -> MlflowRejected:
    """Return an error that names the remedy for a response that is not a success."""
    message, code = _message_and_code(body)
    if location:
        reason = f"it has moved. Use {location!r} as the tracking URI."
    elif status == 403 and "invalid host" in message.lower():
        reason = (
            f"{message}. Start the server with `mlflow server --allowed-hosts` and the host name of that address (or "
            "MLFLOW_SERVER_ALLOWED_HOSTS)."
        )
    elif status in {401, 403}:
        reason = (
            f"{message or 'not permitted'}. Give the MLflow connection a user with edit permission (login and "
            "password, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD), or a token."
        )
    elif status in {502, 503, 504}:
        reason = "the gateway in front of it finds no server. Start MLflow."
    else:
        reason = message
    return MlflowRejected(f"MLflow at {server!r} answered {status} to {request}: {reason}", status, code)


def _message_and_code(body: bytes) -> tuple[str, str]:
    """Return MLflow's message and error code, or the beginning of any other body."""
    text = body.decode(errors="replace").strip()
    try:
        answer = json.loads(text)
        return str(answer["message"]), str(answer["error_code"])
    except (ValueError, TypeError, KeyError):
        return text[:300], ""
