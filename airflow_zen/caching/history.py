"""What went into the latest results of each task, so that a miss can say what is different this time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import msgspec
from msgspec.structs import asdict

from airflow_zen.artifacts.root import folder
from airflow_zen.artifacts.transport import Transport
from airflow_zen.errors import ArtifactNotFound

_KEPT = 5
_SHORT = 40
_NAMELESS = "nothing"


class Remembered(msgspec.Struct, frozen=True):
    """One earlier result: its key, who made it, and the labelled fingerprints folded into the key.

    `seconds` is how long the work took, `size` the bytes of all outputs; None in records of old.
    """

    key: str
    origin: str
    ingredients: Mapping[str, str]
    sources: Mapping[str, str]
    seconds: float | None = None
    size: int | None = None


class KeyHistory:
    """Keep the last few keys of each task under `cache/history/`: one object a task, however many entries there are.

    Two tasks that write at once may lose one of the two; only the wording of an explanation depends on it.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def of(self, dag_id: str, task_id: str) -> list[Remembered]:
        """Read a task's latest keys, newest first; none when nothing readable is there."""
        try:
            found = json.loads(self._transport.read(_address(dag_id, task_id)))
            return [Remembered(**entry) for entry in found]
        except (ArtifactNotFound, ValueError, TypeError):
            return []

    def add(self, dag_id: str, task_id: str, result: Remembered) -> None:
        """Put a result in front; the oldest beyond the last few is forgotten."""
        others = [entry for entry in self.of(dag_id, task_id) if entry.key != result.key]
        kept = [asdict(entry) for entry in [result, *others][:_KEPT]]
        self._transport.write(_address(dag_id, task_id), json.dumps(kept, indent=1).encode())


def closest(ingredients: Mapping[str, str], history: list[Remembered]) -> Remembered | None:
    """Choose the earlier result that differs least; the newest of several."""
    return min(history, key=lambda entry: len(list(differences(ingredients, entry.ingredients))), default=None)


def differences(now: Mapping[str, str], before: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield `(label, before, now)` for every ingredient that differs; one that is missing is empty text."""
    for label in sorted({*now, *before}, key=_by_weight):
        old, new = before.get(label, ""), now.get(label, "")
        if old != new:
            yield label, old, new


def explanation(ingredients: Mapping[str, str], sources: Mapping[str, str], history: list[Remembered]) -> str:
    """Say in one line why a key was never seen: what differs from the closest earlier result.

    `sources` are the texts behind the ingredients: where both are short, they are told, not their fingerprints.
    """
    earlier = closest(ingredients, history)
    if earlier is None:
        return "no earlier result of this task is remembered"
    told = [
        _tell(label, before, now, earlier.sources.get(label, ""), sources.get(label, ""))
        for label, before, now in differences(ingredients, earlier.ingredients)
    ]
    return "; ".join(told) or f"the result of {earlier.origin} is no longer there"


def _tell(label: str, before: str, now: str, text_before: str, text_now: str) -> str:
    kind, _, name = label.partition(" ")
    if kind == "distribution":
        return f"{name} {before or _NAMELESS} → {now or _NAMELESS}"
    if kind in ("input", "parameter"):
        return f"{kind} '{name}': {_short(before, text_before)} → {_short(now, text_now)}"
    if not before:
        return f"{label} is new"
    if not now:
        return f"{label} is gone"
    return f"{label}: {before} → {now}" if kind == "python" else f"{label} changed"


def _short(fingerprint: str, text: str) -> str:
    if text and len(text) <= _SHORT:
        return text
    return f"{fingerprint[:4]}…" if fingerprint else _NAMELESS


def _by_weight(label: str) -> tuple[int, str]:
    """Tell what a user did before what follows from it."""
    order = (
        "function", "class", "constant", "parameter", "input", "key", "file", "env", "view", "version", "scope", "output",
        "distribution",
    )  # fmt: skip
    kind = label.partition(" ")[0]
    return (order.index(kind) if kind in order else len(order), label)


def _address(dag_id: str, task_id: str) -> str:
    return f"cache/history/{folder(dag_id)}/{folder(task_id)}.json"
