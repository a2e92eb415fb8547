"""The log of a container: lines with their times, which readers can follow."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta


class Log:
    """What a container has written; read it while it is written."""

    def __init__(self) -> None:
        self._lines: list[tuple[datetime, bytes]] = []
        self._closed = False
        self._changed = threading.Condition()

    def fill(self, lines: Iterator[bytes]) -> None:
        """Take lines until they end."""
        for line in lines:
            with self._changed:
                self._lines.append((datetime.now(UTC), line))
                self._changed.notify_all()
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_closed(self, timeout: float) -> None:
        """Wait until the last line is there; timeout: seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, timeout)

    def read(self, query: Mapping[str, str]) -> Iterator[bytes]:
        """Yield lines as the parameters `follow`, `timestamps`, `sinceSeconds`, `sinceTime`, `tailLines` of a request ask."""
        stamped = is_true(query, "timestamps")
        for time, line in self._following() if is_true(query, "follow") else self._present(query.get("tailLines")):
            if time >= _since(query):
                yield _stamp(time) + line if stamped else line

    def _present(self, tail: str | None) -> list[tuple[datetime, bytes]]:
        with self._changed:
            return self._lines[max(0, len(self._lines) - int(tail)) if tail else 0 :]

    def _following(self) -> Iterator[tuple[datetime, bytes]]:
        index = 0
        while new := self._after(index):
            index += len(new)
            yield from new

    def _after(self, index: int) -> list[tuple[datetime, bytes]]:
        """Wait for lines after an index; none are left if there are none."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._lines) > index)
            return self._lines[index:]


def is_true(query: Mapping[str, str], name: str) -> bool:
    """Whether a parameter of a request is true, as clients of Go or Python write it."""
    return query.get(name, "").lower() in ("true", "1")


def _stamp(time: datetime) -> bytes:
    return time.isoformat(timespec="microseconds").replace("+00:00", "000Z ").encode()


def _since(query: Mapping[str, str]) -> datetime:
    if "sinceSeconds" in query:
        return datetime.now(UTC) - timedelta(seconds=int(query["sinceSeconds"]))
    if "sinceTime" in query:
        return datetime.fromisoformat(query["sinceTime"])
    return datetime.min.replace(tzinfo=UTC)
