"""What MLflow has room for, and how longer things are shortened: visibly, with `…`."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

MAX_RUN_NAME = 250
MAX_EXPERIMENT_NAME = 256
# The address of a run's files, 43 characters longer, has 200 in MLflow's database.
MAX_ARTIFACT_LOCATION = 157
MAX_KEY = 250
MAX_PARAMETER_VALUE = 6000
MAX_TAG_VALUE = 8000
MAX_DATASET_NAME = 500
MAX_DATASET_SCHEMA = 1_048_575
DIGEST_LENGTH = 16
MAX_BATCH_ENTRIES = 100
MAX_BATCH_BYTES = 400_000

ELLIPSIS = "…"


def shorten(text: str, limit: int) -> str:
    """Cut a text to `limit` characters, ending in `…`; NUL characters, which PostgreSQL refuses, become `�`."""
    text = text.replace("\0", "\ufffd")
    return text if len(text) <= limit else text[: limit - 1] + ELLIPSIS


def shorten_name(name: str, limit: int) -> str:
    """Cut a name that must stay its own: `…` and 8 characters of its hash end it."""
    if len(name) <= limit:
        return name
    return shorten(name, limit - 8) + hashlib.sha256(name.encode()).hexdigest()[:8]


def short_digest(digest: str) -> str:
    """Give the first 16 hex characters; MLflow takes at most 36, and people read them."""
    return digest[:DIGEST_LENGTH]


def pack_tag(items: Iterable[str]) -> tuple[str, bool]:
    """Pack `|a|b|` for a tag, so that `LIKE '%@<digest>|%'` finds an item; tell whether all of them fitted."""
    text = "|"
    for item in items:
        if len(text) + len(item) + 3 > MAX_TAG_VALUE:
            return f"{text}{ELLIPSIS}|", False
        text += f"{item}|"
    return (text, True) if text != "|" else ("", True)


def split_batches(entries: Sequence[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    """Divide parameters or tags into lists that one `log-batch` request may carry."""
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


def to_milliseconds(seconds: float) -> int:
    """Give MLflow's unit of time."""
    return round(seconds * 1000)


def metric_entry(key: str, value: float, timestamp: int) -> dict[str, Any]:
    """Write one metric; JSON has no number for NaN and the infinities, so they travel as text."""
    encoded: float | str = value
    if not math.isfinite(value):
        encoded = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return {"key": key, "value": encoded, "timestamp": timestamp, "step": 0}


_MAX_PARAMETERS = 300
_INVALID_KEY_CHARACTERS = re.compile(r"[^\w.\- :]")


def flatten_parameters(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Give MLflow parameters: `optimizer.lr` for nested dicts, JSON for lists, `str` for the rest.

    At most 300; `zen.more` says how many others the step run record holds.
    """
    leaves = list(_flatten(parameters, ""))
    texts: dict[str, str] = {}
    for name, value in leaves[:_MAX_PARAMETERS]:
        texts[_unique_key(sanitize_key(name), texts)] = shorten(_value_text(value), MAX_PARAMETER_VALUE)
    if len(leaves) > _MAX_PARAMETERS:
        texts["zen.more"] = f"{ELLIPSIS} {len(leaves) - _MAX_PARAMETERS} more parameters are in the step run record"
    return texts


def key_value_entries(texts: Mapping[str, str]) -> list[dict[str, str]]:
    """Write a mapping as MLflow's list of `{"key", "value"}`."""
    return [{"key": key, "value": value} for key, value in texts.items()]


def sanitize_key(name: str) -> str:
    """Write a name with the characters and the length that MLflow allows."""
    return shorten_name(_INVALID_KEY_CHARACTERS.sub("_", name).strip() or "_", MAX_KEY)


def _flatten(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and (value or not name):
        for key, inner in value.items():
            yield from _flatten(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _unique_key(key: str, taken: Mapping[str, str]) -> str:
    """Give the key, numbered when two names became the same one."""
    number = 2
    unique = key
    while unique in taken:
        unique, number = f"{key[: MAX_KEY - 6]}_{number}", number + 1
    return unique


def _value_text(value: Any) -> str:
    if isinstance(value, list | tuple | Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
