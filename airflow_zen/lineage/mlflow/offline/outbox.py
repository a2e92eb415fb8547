"""What a step's code logged while MLflow was away, in a directory of the step's journal."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import asdict

# The tag by which a run or model that a request created is found again.
CREATION_TAG = "zen.call"
_SPAN_HEADERS = frozenset({"content-type", "content-encoding", "x-mlflow-experiment-id", "x-mlflow-run-id"})
REQUESTS, FILES = "requests.jsonl", "files"


class Request(msgspec.Struct, frozen=True):
    """A request to MLflow's REST API; a `path` without a leading slash follows `/api/2.0/mlflow/`.

    `created` is the id by which the step's code knows what the request creates, until MLflow gives its own.
    """

    method: str
    path: str
    body: Mapping[str, Any]
    created: str = ""

    def entry(self) -> dict[str, Any]:
        """Return the one metric, parameter or tag that the request logs."""
        return {name: value for name, value in self.body.items() if name not in {"run_id", "run_uuid"}}


def encode_spans(headers: Mapping[str, str], content: bytes) -> dict[str, Any]:
    """Return spans in OTLP's protobuf encoding, and the headers that belong to them, as JSON."""
    kept = {name: value for name, value in headers.items() if name.lower() in _SPAN_HEADERS}
    return {"headers": kept, "content": b64encode(content).decode()}


def decode_spans(body: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    """Return the content and the headers that `encode_spans` was given."""
    return b64decode(body["content"]), body["headers"]


class Outbox(msgspec.Struct, frozen=True):
    """Requests in their order, and the files of runs and models.

    The first two requests stand for the step's experiment and run, which the recorder sees to.
    """

    directory: Path

    def append(self, request: Request) -> None:
        """Keep a request, whole whatever becomes of the process."""
        with (self.directory / REQUESTS).open("ab", buffering=0) as file:
            file.write(json.dumps(asdict(request)).encode() + b"\n")

    def logged(self) -> list[Request]:
        """Return the requests of the step's code."""
        with suppress(FileNotFoundError):
            return parse_requests((self.directory / REQUESTS).read_bytes())[2:]
        return []

    def files_of(self, entity_id: str) -> str:
        """Return the directory for the files of a run or model."""
        return str(self.directory / FILES / entity_id / "artifacts")


def parse_requests(lines: bytes) -> list[Request]:
    """Parse a file of requests; half a last line, which a machine that died may leave, is none."""
    return [Request(**json.loads(line)) for line in lines[: lines.rfind(b"\n") + 1].splitlines()]
