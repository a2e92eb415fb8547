"""Send many small calls as few large ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from airflow_zen.lineage.limits import MAX_BATCH_ENTRIES
from airflow_zen.lineage.user_calls import UserCall

# The most of each kind that one request may hold; MLflow takes 1000 of all together.
_ROOM = {"metrics": 700, "params": MAX_BATCH_ENTRIES, "tags": MAX_BATCH_ENTRIES}
_KIND = {"LogMetric": "metrics", "LogParam": "params", "SetTag": "tags"}
_PATH = "runs/log-batch"


def batched(calls: Iterable[UserCall]) -> Iterator[UserCall]:
    """Join calls that follow each other and log into the same run, as far as one request has room."""
    waiting: UserCall | None = None
    for call in map(_as_batch, calls):
        joined = _joined(waiting, call) if waiting else None
        if joined is None and waiting:
            yield waiting
        waiting = joined or call
    if waiting:
        yield waiting


def parts(call: UserCall) -> list[UserCall]:
    """Take a batch apart, one entry each; a call of another kind is its only part."""
    if call.path != _PATH:
        return [call]
    return [
        replace(call, body={"run_id": call.body["run_id"], kind: [entry]})
        for kind in _ROOM
        for entry in call.body.get(kind, [])
    ]


def _as_batch(call: UserCall) -> UserCall:
    kind = _KIND.get(call.api)
    if kind is None:
        return call
    entry = {name: value for name, value in call.body.items() if name not in {"run_id", "run_uuid"}}
    return UserCall("LogBatch", "POST", _PATH, {"run_id": call.body["run_id"], kind: [entry]})


def _joined(first: UserCall, second: UserCall) -> UserCall | None:
    if (first.path, second.path) != (_PATH, _PATH) or first.body["run_id"] != second.body["run_id"]:
        return None
    body: Mapping[str, Any] = {kind: [*first.body.get(kind, []), *second.body.get(kind, [])] for kind in _ROOM}
    if any(len(body[kind]) > room for kind, room in _ROOM.items()) or _twice(body["tags"]):
        return None
    return replace(first, body={"run_id": first.body["run_id"], **body})


def _twice(tags: list[Mapping[str, Any]]) -> bool:
    """Tell whether a tag is set twice, of which the later one counts."""
    return len({tag["key"] for tag in tags}) < len(tags)
