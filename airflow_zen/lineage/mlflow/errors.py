"""What an MLflow server's failure means, and the way out of it."""

from __future__ import annotations

import json

from airflow_zen.errors import LineageError


class MlflowUnavailable(LineageError):
    """The MLflow server cannot be reached, or did not answer in time."""


class MlflowRejected(LineageError):
    """The MLflow server answered, and said no; `error_code` is MLflow's word for why, `status` HTTP's."""

    def __init__(self, message: str, status: int, error_code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code

    @property
    def is_client_error(self) -> bool:
        """Tell a fault of what was asked from one of the server, or of our permissions."""
        return 400 <= self.status < 500 and self.status not in {401, 403, 408, 429}

    @property
    def is_missing(self) -> bool:
        """Tell whether the thing asked for does not exist."""
        return self.error_code == "RESOURCE_DOES_NOT_EXIST"

    @property
    def already_exists(self) -> bool:
        """Tell whether the thing to be made exists already."""
        return self.error_code == "RESOURCE_ALREADY_EXISTS"


def error_from_response(server: str, request: str, status: int, body: bytes, location: str = "") -> MlflowRejected:
    """Turn an HTTP answer that is no success into an error that names the remedy."""
    message, code = _message_and_code(body)
    where = f"MLflow at {server!r} answered {status} to {request}"
    if location:
        return MlflowRejected(f"{where}: it has moved. Use {location!r} as the tracking URI.", status, code)
    if status == 403 and "invalid host" in message.lower():
        return MlflowRejected(
            f"{where}: {message}. Start the server with `mlflow server --allowed-hosts` and the host name of that "
            "address (or MLFLOW_SERVER_ALLOWED_HOSTS).",
            status,
            code,
        )
    if status in {401, 403}:
        return MlflowRejected(
            f"{where}: {message or 'not permitted'}. Give the MLflow connection a user with edit permission (login and "
            "password, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD), or a token.",
            status,
            code,
        )
    if status in {502, 503, 504}:
        return MlflowRejected(f"{where}: the gateway in front of it finds no server. Start MLflow.", status, code)
    return MlflowRejected(f"{where}: {message}", status, code)


def _message_and_code(body: bytes) -> tuple[str, str]:
    """Give MLflow's message and error code, or the start of whatever came instead."""
    text = body.decode(errors="replace").strip()
    try:
        answer = json.loads(text)
        return str(answer["message"]), str(answer["error_code"])
    except (ValueError, TypeError, KeyError):
        return text[:300], ""
