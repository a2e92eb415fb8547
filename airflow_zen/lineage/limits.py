"""What MLflow has room for, and how longer things are shortened: visibly, with `…`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

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
