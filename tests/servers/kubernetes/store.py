"""Objects with their versions and the history of their changes, as etcd keeps them for an API server."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.servers.kubernetes.errors import ApiError, conflict, not_found
from tests.servers.kubernetes.kinds import Kind
from tests.servers.kubernetes.selectors import Predicate

Object = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """One write: what there was before, and what there is since; None for nothing."""

    revision: int
    kind: Kind
    namespace: str
    before: Object | None
    after: Object | None

    def event(self, selected: Predicate) -> tuple[str, Object] | None:
        """Return the type and the object of the event that a watch of the selected objects sees."""
        was = self.before is not None and selected(self.before)
        now = self.after is not None and selected(self.after)
        if now:
            return ("MODIFIED" if was else "ADDED", self.after or {})
        return ("DELETED", {**self._last(), "metadata": self._last_metadata()}) if was else None

    def _last(self) -> Object:
        return self.after or self.before or {}

    def _last_metadata(self) -> Object:
        return {**self._last()["metadata"], "resourceVersion": str(self.revision)}


@dataclass
class Store:
    """All objects of one cluster; every write has a revision, which is its `resourceVersion`."""

    revision: int = 100
    _objects: dict[tuple[str, str, str], Object] = field(default_factory=dict)
    _changes: list[Change] = field(default_factory=list)
    # The oldest revision from which a watch can resume.
    compacted: int = 100
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._changed = threading.Condition(self.lock)

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Return a copy of an object; raise `ApiError` 404 if there is none."""
        with self.lock:
            found = self._objects.get((kind.resource, namespace, name))
            if found is None:
                raise not_found(kind.resource, name)
            return copy.deepcopy(found)

    def find(self, kind: Kind, namespace: str = "", selected: Predicate = lambda _: True) -> list[Object]:
        """Return copies of the selected objects in the order of their names; namespace: empty means all."""
        with self.lock:
            keys = sorted(k for k in self._objects if k[0] == kind.resource and namespace in ("", k[1]))
            return [copy.deepcopy(self._objects[key]) for key in keys if selected(self._objects[key])]

    def everything(self) -> list[Object]:
        """Return copies of all objects of all kinds."""
        with self.lock:
            return copy.deepcopy(list(self._objects.values()))

    def add(self, kind: Kind, new: Object) -> Object:
        """Store a new object and return it with its version; raise `ApiError` 409 if its name is taken."""
        metadata = new["metadata"]
        key = (kind.resource, metadata.get("namespace", ""), metadata["name"])
        with self.lock:
            if key in self._objects:
                details = {"name": key[2], "kind": kind.resource}
                raise ApiError(409, f'{kind.resource} "{key[2]}" already exists', "AlreadyExists", details)
            return self._write(kind, key, new)

    def replace(self, kind: Kind, new: Object) -> Object:
        """Store a new state of an object and return it with its version.

        Nothing is written if the object stays as it is. Raises `ApiError` 404, and 409 if the new state is based on
        another version than the present one.
        """
        metadata = new["metadata"]
        key = (kind.resource, metadata.get("namespace", ""), metadata["name"])
        with self.lock:
            old = self.get(kind, key[1], key[2])
            if (
                metadata.get("resourceVersion", old["metadata"]["resourceVersion"])
                != old["metadata"]["resourceVersion"]
            ):
                why = "the object has been modified; please apply your changes to the latest version and try again"
                raise conflict(kind.resource, key[2], why)
            metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
            return old if _same(old, new) else self._write(kind, key, new)

    def remove(self, kind: Kind, namespace: str, name: str) -> Object:
        """Delete an object and return its last state; raise `ApiError` 404 if there is none."""
        with self.lock:
            old = self.get(kind, namespace, name)
            self._record(kind, namespace, old, None)
            del self._objects[(kind.resource, namespace, name)]
            return old

    def compact(self) -> None:
        """Forget the history, as etcd does after five minutes: a watch from an old version is then refused."""
        with self.lock:
            self.compacted = self.revision

    def changes(self, kind: Kind, namespace: str, since: int, timeout: float) -> tuple[list[Change], int]:
        """Return the changes after a revision, or wait for one; and the revision up to which there are no others.

        timeout: seconds, after which there are none.
        """
        with self.lock:
            self._changed.wait_for(lambda: next(self._after(kind, namespace, since), None), timeout)
            return list(self._after(kind, namespace, since)), self.revision

    def _after(self, kind: Kind, namespace: str, since: int) -> Iterator[Change]:
        for change in self._changes:
            if change.revision > since and change.kind == kind and namespace in ("", change.namespace):
                yield change

    def _write(self, kind: Kind, key: tuple[str, str, str], new: Object) -> Object:
        new = copy.deepcopy(new)
        new["metadata"]["resourceVersion"] = str(self.revision + 1)
        self._record(kind, key[1], self._objects.get(key), new)
        self._objects[key] = new
        return copy.deepcopy(new)

    def _record(self, kind: Kind, namespace: str, before: Object | None, after: Object | None) -> None:
        self.revision += 1
        self._changes.append(Change(self.revision, kind, namespace, before, after))
        self._changed.notify_all()


def _same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two states differ at most in when their fields were last managed."""
    return _without_times(old) == _without_times(new)


def _without_times(found: Mapping[str, Any]) -> Object:
    managed = [{**entry, "time": ""} for entry in found["metadata"].get("managedFields", ())]
    return {**found, "metadata": {**found["metadata"], "managedFields": managed}}
