"""Errors as a Kubernetes API server answers them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    504: "Timeout",
}


class ApiError(Exception):
    """A request that is refused; `reason` and `details` are those of Kubernetes' `Status`."""

    def __init__(self, code: int, message: str, reason: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason or _REASONS[code]
        self.details = dict(details or {})

    def status(self) -> dict[str, Any]:
        """Return the `Status` object that is the body of the answer."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def not_found(resource: str, name: str) -> ApiError:
    """Return the error of an object that does not exist; resource: such as `pods`."""
    return ApiError(404, f'{resource} "{name}" not found', details={"name": name, "kind": resource})


def conflict(resource: str, name: str, why: str) -> ApiError:
    """Return the error of a write that is based on an old version of the object."""
    message = f'Operation cannot be fulfilled on {resource} "{name}": {why}'
    return ApiError(409, message, details={"name": name, "kind": resource})


def invalid(kind: str, name: str, problems: Iterable[str]) -> ApiError:
    """Return the error of an object that breaks rules; problems: such as `spec.containers: Required value`."""
    found = list(problems)
    causes = [
        {"reason": "FieldValueInvalid", "field": problem.partition(":")[0], "message": problem} for problem in found
    ]
    text = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
    return ApiError(422, f'{kind} "{name}" is invalid: {text}', details={"name": name, "kind": kind, "causes": causes})
