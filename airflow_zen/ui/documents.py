"""Documents of the store, read in parallel and kept in memory up to a number of bytes."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import ArtifactNotFound
from airflow_zen.transports.base import map_in_parallel

if TYPE_CHECKING:
    from airflow_zen.transports.base import ObjectInfo, Transport

_MAX_BYTES = 12 * 1024 * 1024


class DocumentCache:
    """Keep the documents that were read last, by what a listing says of them: one that was written again is another one.

    A document that is never replaced, such as a manifest, is kept by its key. One larger than half of the bound is not kept.

    max_bytes: of all documents together, over all roots.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._documents: OrderedDict[tuple[str, ObjectInfo | str], bytes] = OrderedDict()
        self._lock = Lock()

    def read(self, transport: Transport, key: str) -> bytes:
        """Return a document that is never replaced. Raises `ArtifactNotFound` for one that is neither kept nor stored."""
        text = self._get(transport, key)
        if text is None:
            text = transport.read(key)
            self._put(transport, key, text)
        return text

    def read_all(self, transport: Transport, objects: Sequence[ObjectInfo]) -> list[bytes | None]:
        """Return the documents in the order of `objects`; None for one that was deleted since it was listed."""
        known = {each: self._get(transport, each) for each in objects}
        missing = [each for each, text in known.items() if text is None]
        for each, text in zip(missing, map_in_parallel(lambda one: _read(transport, one.key), missing), strict=True):
            known[each] = text
            if text is not None:
                self._put(transport, each, text)
        return [known[each] for each in objects]

    def _get(self, transport: Transport, each: ObjectInfo | str) -> bytes | None:
        with self._lock:
            if (key := (transport.root, each)) in self._documents:
                self._documents.move_to_end(key)
            return self._documents.get(key)

    def _put(self, transport: Transport, each: ObjectInfo | str, text: bytes) -> None:
        if len(text) > self._max_bytes // 2:
            return
        with self._lock:
            self._size += len(text) - len(self._documents.get((transport.root, each), b""))
            self._documents[transport.root, each] = text
            while self._size > self._max_bytes:
                self._size -= len(self._documents.popitem(last=False)[1])


def _read(transport: Transport, key: str) -> bytes | None:
    try:
        return transport.read(key)
    except ArtifactNotFound:
        return None


def parse_document(text: bytes) -> Any:
    """Return a JSON document, without the halves of surrogate pairs, which no answer can contain."""
    document = json.loads(text)
    if b"\\ud" not in text.lower():
        return document
    return json.loads(json.dumps(document, ensure_ascii=False).encode(errors="replace"))
