"""The paths and verbs of the API, over the objects of a cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import yaml

from tests.servers.kubernetes.errors import ApiError
from tests.servers.kubernetes.kinds import KUBERNETES, Kind
from tests.servers.kubernetes.logs import is_true
from tests.servers.kubernetes.resources import APPLY_PATCH, Resources, Write
from tests.servers.kubernetes.selectors import Predicate, field_predicate, label_predicate
from tests.servers.kubernetes.store import Object

_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
# Seconds of a watch for which the client names none.
_WATCH = 3600


@dataclass(frozen=True)
class Request:
    """One HTTP request; query: the last value of each name."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    user_agent: str = ""
    body: bytes = b""

    def json(self) -> Any:
        """Return the body; an apply may be YAML. Raises `ApiError` 400 if it is neither."""
        try:
            return yaml.safe_load(self.body) if "yaml" in self.content_type else json.loads(self.body or b"{}")
        except ValueError as error:
            raise ApiError(400, f"the body of the request cannot be read: {error}") from error

    def is_set(self, name: str) -> bool:
        """Whether a parameter of the query is true."""
        return is_true(self.query, name)


@dataclass(frozen=True)
class Answer:
    """A JSON object, or a stream of bytes."""

    code: int = 200
    body: Object | None = None
    stream: Iterator[bytes] | None = None
    content_type: str = "application/json"


class Logs(Protocol):
    """What the API asks the cluster's node for."""

    def logs(self, pod: Object, query: Mapping[str, str]) -> Iterator[bytes]:
        """Yield the lines of a container's log."""


@dataclass(frozen=True)
class _Target:
    kind: Kind
    namespace: str
    name: str
    subresource: str


class Api:
    """Answer requests as an API server does; bookmark_seconds: between two bookmarks of a watch."""

    def __init__(self, resources: Resources, logs: Logs, token: str, bookmark_seconds: float = 0.5) -> None:
        self._authorization = f"Bearer {token}"
        self._resources = resources
        self._store = resources.store
        self._logs = logs
        self._bookmark_seconds = bookmark_seconds

    def answer(self, request: Request, authorization: str) -> Answer:
        """Return the answer to a request with the header; raise `ApiError` if it is refused."""
        if authorization != self._authorization:
            raise ApiError(401, "Unauthorized")
        parts = [part for part in request.path.split("/") if part]
        if parts in (["healthz"], ["livez"], ["readyz"]):
            return Answer(stream=iter([b"ok"]), content_type="text/plain")
        if (found := self._discovery(parts)) is not None:
            return Answer(body=found)
        target = self._target(parts)
        if target.subresource == "log":
            pod = self._store.get(target.kind, target.namespace, target.name)
            return Answer(stream=self._logs.logs(pod, request.query), content_type="text/plain")
        if target.subresource == "eviction" and request.method == "POST":
            options = request.json().get("deleteOptions") or {}
            self._resources.delete(target.kind, target.namespace, target.name, options)
            return Answer(201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
        return self._of_one(request, target) if target.name else self._of_many(request, target)

    def _of_one(self, request: Request, target: _Target) -> Answer:
        place = (target.kind, target.namespace, target.name)
        write = _write(request, target.subresource)
        if request.method == "GET":
            return Answer(body=self._store.get(*place))
        if request.method == "PUT":
            return Answer(body=self._resources.update(*place, request.json(), write))
        if request.method == "PATCH":
            is_new = not self._store.find(*place[:2], lambda found: found["metadata"]["name"] == target.name)
            body = self._resources.patch(*place, request.json(), request.content_type, write)
            return Answer(201 if is_new else 200, body)
        if request.method == "DELETE":
            found = self._resources.delete(*place, _delete_options(request), dry_run=write.dry_run)
            return Answer(body=found if "deletionTimestamp" in found["metadata"] else _gone(target, found))
        raise ApiError(405, "the server does not allow this method on the requested resource")

    def _of_many(self, request: Request, target: _Target) -> Answer:
        if request.method == "GET":
            selected = _selected(request, target.kind)
            if request.is_set("watch"):
                return Answer(stream=self._watch(target, selected, request.query))
            return Answer(body=self._list(target, selected, request.query))
        if request.method == "POST":
            return Answer(201, self._resources.create(target.kind, target.namespace, request.json(), _write(request)))
        if request.method == "DELETE":
            for found in self._store.find(target.kind, target.namespace, _selected(request, target.kind)):
                metadata = found["metadata"]
                self._resources.delete(
                    target.kind, metadata.get("namespace", ""), metadata["name"], _delete_options(request)
                )
            return Answer(body={"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
        raise ApiError(405, "the server does not allow this method on the requested resource")

    def _list(self, target: _Target, selected: Predicate, query: Mapping[str, str]) -> Object:
        with self._store.lock:
            self._require_revision(query)
            found = self._store.find(target.kind, target.namespace, selected)
            revision = str(self._store.revision)
        limit = int(query.get("limit") or len(found) or 1)
        begin = int(query.get("continue") or 0)
        left = max(0, len(found) - begin - limit)
        more = {"continue": str(begin + limit), "remainingItemCount": left} if left else {}
        return {
            "kind": f"{target.kind.name}List",
            "apiVersion": target.kind.api_version,
            "metadata": {"resourceVersion": revision, **more},
            "items": found[begin : begin + limit],
        }

    def _require_revision(self, query: Mapping[str, str]) -> None:
        wanted = int(query.get("resourceVersion") or 0)
        if wanted > self._store.revision:
            message = f"Too large resource version: {wanted}, current: {self._store.revision}"
            raise ApiError(504, message, details={"retryAfterSeconds": 1})
        if query.get("resourceVersionMatch") == "Exact" and wanted != self._store.revision:
            raise ApiError(410, f"The resourceVersion for the provided list is too old: {wanted}")

    def _watch(self, target: _Target, selected: Predicate, query: Mapping[str, str]) -> Iterator[bytes]:
        """Yield events as lines: the present objects if no version is given, then changes, and bookmarks."""
        deadline = time.monotonic() + float(query.get("timeoutSeconds") or _WATCH)
        since = int(query.get("resourceVersion") or 0)
        if not since:
            with self._store.lock:
                since, found = self._store.revision, self._store.find(target.kind, target.namespace, selected)
            yield from (_event("ADDED", each) for each in found)
        if since < self._store.compacted:
            error = ApiError(410, f"too old resource version: {since} ({self._store.compacted})")
            yield _event("ERROR", error.status())
            return
        has_bookmarks = is_true(query, "allowWatchBookmarks")
        while (left := deadline - time.monotonic()) > 0:
            pause = min(left, self._bookmark_seconds) if has_bookmarks else left
            changes, since = self._store.changes(target.kind, target.namespace, since, pause)
            yield from (_event(*event) for change in changes if (event := change.event(selected)) is not None)
            if not changes and has_bookmarks:
                yield _event("BOOKMARK", _bookmark(target.kind, since))

    def _target(self, parts: list[str]) -> _Target:
        group, version, *rest = ["", *parts[1:]] if parts[:1] == ["api"] else parts[1:] or [""]
        if len(rest) > 2 and rest[0] == "namespaces" and self._found(group, version, rest[2]):
            _, namespace, *rest = rest
        else:
            namespace = ""
        plural, name, subresource, *more = [*rest, "", "", ""][: max(3, len(rest))]
        kind = self._found(group, version, plural)
        known = ("", "log", "eviction") if plural == "pods" else ("",)
        if kind is None or more or (subresource not in known and not (kind.has_status and subresource == "status")):
            raise ApiError(404, "the server could not find the requested resource")
        return _Target(kind, namespace, name, subresource)

    def _found(self, group: str, version: str, plural: str) -> Kind | None:
        kinds = self._resources.kinds
        return next((k for k in kinds if (k.group, k.version, k.plural) == (group, version, plural)), None)

    def _discovery(self, parts: list[str]) -> Object | None:
        kinds = self._resources.kinds
        if parts == ["version"]:
            major, minor = KUBERNETES.split(".")
            return {"major": major, "minor": minor, "gitVersion": f"v{KUBERNETES}.0", "platform": "linux/amd64"}
        if parts == ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        if parts == ["apis"]:
            groups = sorted({(kind.group, kind.version) for kind in kinds if kind.group})
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*each) for each in groups]}
        version = "/".join(parts[1:])
        found = [kind for kind in kinds if kind.api_version == version]
        if parts[:1] not in (["api"], ["apis"]) or not found:
            return None
        listed = [entry for kind in found for entry in _listed(kind)]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": listed}


def _write(request: Request, subresource: str = "") -> Write:
    manager = request.query.get("fieldManager") or request.user_agent.partition("/")[0] or "unknown"
    if request.content_type == APPLY_PATCH and "fieldManager" not in request.query:
        raise ApiError(
            422, "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch"
        )
    return Write(manager, "dryRun" in request.query, request.is_set("force"), subresource)


def _selected(request: Request, kind: Kind) -> Predicate:
    labels = label_predicate(request.query.get("labelSelector", ""))
    fields = field_predicate(request.query.get("fieldSelector", ""), kind.plural)
    return lambda found: labels(found) and fields(found)


def _delete_options(request: Request) -> dict[str, Any]:
    options = dict(request.json() or {})
    options.pop("kind", None)
    for name in ("gracePeriodSeconds", "propagationPolicy"):
        if name in request.query:
            options[name] = request.query[name]
    return options


def _gone(target: _Target, found: Object) -> Object:
    details = {"name": target.name, "kind": target.kind.plural, "uid": found["metadata"]["uid"]}
    if target.kind.name == "Pod":
        return found
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _event(kind: str, found: Object) -> bytes:
    return json.dumps({"type": kind, "object": found}).encode() + b"\n"


def _bookmark(kind: Kind, revision: int) -> Object:
    metadata = {"resourceVersion": str(revision), "creationTimestamp": None}
    return {"kind": kind.name, "apiVersion": kind.api_version, "metadata": metadata}


def _group(group: str, version: str) -> Object:
    entry = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [entry], "preferredVersion": entry}


def _listed(kind: Kind) -> Iterator[Object]:
    entry = {"name": kind.plural, "singularName": kind.name.lower(), "namespaced": kind.namespaced, "kind": kind.name}
    yield {**entry, "verbs": _VERBS}
    if kind.has_status:
        yield {**entry, "name": f"{kind.plural}/status", "singularName": "", "verbs": ["get", "patch", "update"]}
