"""Values within MLflow's limits: shortened texts end in `…`."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

MAX_RUN_NAME = 250
MAX_KEY = 250
MAX_PARAMETER_VALUE = 6000
MAX_TAG_VALUE = 8000
MAX_BATCH_ENTRIES = 100
MAX_BATCH_BYTES = 400_000

ELLIPSIS = "…"

_MAX_PARAMETERS = 300
_INVALID_KEY_CHARACTERS = r"[^\w.\- :]"

T = TypeVar("T")


def shorten(text: str, limit: int) -> str:
    """Cut a text to `limit` characters, ending in `…`; replace NUL characters, which PostgreSQL refuses, by `�`."""
    text = text.replace("\0", "\ufffd")
    return text if len(text) <= limit else text[: limit - 1] + ELLIPSIS


def shorten_name(name: str, limit: int) -> str:
    """Cut a name that must stay unique, ending in `…` and 8 characters of its hash."""
    if len(name) <= limit:
        return name
    return shorten(name, limit - 8) + hashlib.sha256(name.encode()).hexdigest()[:8]


def short_digest(digest: str) -> str:
    """Return the first 16 hex characters; MLflow accepts at most 36."""
    return digest[:16]


def pack_tag(items: Iterable[str]) -> tuple[str, bool]:
    """Return the tag text `|a|b|`, in which `LIKE '%@<digest>|%'` finds an item, and whether all items fitted."""
    text = "|"
    for item in items:
        if len(text) + len(item) + 3 > MAX_TAG_VALUE:
            return f"{text}{ELLIPSIS}|", False
        text += f"{item}|"
    return (text, True) if text != "|" else ("", True)


def split_batches(entries: Sequence[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    """Yield lists of parameters or tags that one `log-batch` request may contain."""
    batch: list[dict[str, str]] = []
    size = 0
    for entry in entries:
        length = sum(len(text.encode(errors="replace")) for text in entry.values())
        if batch and (len(batch) == MAX_BATCH_ENTRIES or size + length > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += length
    if batch:
        yield batch


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield parts of at most `size` items."""
    return (items[first : first + size] for first in range(0, len(items), size))


def to_milliseconds(seconds: float) -> int:
    """Return a time as milliseconds since the epoch."""
    return round(seconds * 1000)


def metric_entries(metrics: Mapping[str, float], seconds: float) -> list[dict[str, Any]]:
    """Return metrics with one timestamp; NaN and the infinities, which JSON does not have, become texts."""
    texts = {math.inf: "Infinity", -math.inf: "-Infinity"}
    return [
        {
            "key": key,
            "value": "NaN" if math.isnan(value) else texts.get(value, value),
            "timestamp": to_milliseconds(seconds),
            "step": 0,
        }
        for key, value in metrics.items()
    ]


def flatten_parameters(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return MLflow parameters: `optimizer.lr` for nested dicts, JSON for lists, `str` for the rest.

    At most 300; the parameter `zen.more` says how many others are in the step run record only.
    """
    leaves = list(_flatten(parameters, ""))
    texts: dict[str, str] = {}
    for name, value in leaves[:_MAX_PARAMETERS]:
        is_nested = isinstance(value, list | tuple | Mapping)
        text = json.dumps(value, ensure_ascii=False, default=str) if is_nested else str(value)
        texts[_unique_key(sanitize_key(name), texts)] = shorten(text, MAX_PARAMETER_VALUE)
    if len(leaves) > _MAX_PARAMETERS:
        texts["zen.more"] = f"{ELLIPSIS} {len(leaves) - _MAX_PARAMETERS} more parameters are in the step run record"
    return texts


def key_values(texts: Mapping[str, str]) -> list[dict[str, str]]:
    """Return a mapping as MLflow's list of `{"key", "value"}`."""
    return [{"key": key, "value": value} for key, value in texts.items()]


def sanitize_key(name: str) -> str:
    """Return a name with only the characters and the length that MLflow allows."""
    return shorten_name(re.sub(_INVALID_KEY_CHARACTERS, "_", name).strip() or "_", MAX_KEY)


def _flatten(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and (value or not name):
        for key, inner in value.items():
            yield from _flatten(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _unique_key(key: str, taken: Mapping[str, str]) -> str:
    """Return the key, with a number where it is taken."""
    number = 2
    unique = key
    while unique in taken:
        unique, number = f"{key[: MAX_KEY - 6]}_{number}", number + 1
    return unique
