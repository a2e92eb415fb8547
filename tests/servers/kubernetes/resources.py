"""What can be done with objects: create, update, patch and delete, by the rules of their kind."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.servers.kubernetes.apply import Manager, applied, updated
from tests.servers.kubernetes.errors import ApiError, conflict, invalid
from tests.servers.kubernetes.kinds import Kind
from tests.servers.kubernetes.metadata import metadata_problems, named, now, successor
from tests.servers.kubernetes.patches import merged, patched, strategically_merged
from tests.servers.kubernetes.pods import pod_problems, pod_update_problems, with_pod_defaults
from tests.servers.kubernetes.store import Object, Store

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
_FOREGROUND = "foregroundDeletion"


@dataclass(frozen=True)
class Write:
    """How a request writes: as which manager, only to try, over other managers' fields."""

    manager: str = "unknown"
    dry_run: bool = False
    force: bool = False
    subresource: str = ""

    def updating(self) -> Manager:
        """Return the owner of what a request other than an apply changes."""
        return Manager(self.manager, "Update", self.subresource)


class Resources:
    """The objects of a cluster and the kinds that it knows."""

    def __init__(self, store: Store, kinds: Iterable[Kind]) -> None:
        self.store = store
        self.kinds = list(kinds)

    def kind(self, name: str) -> Kind:
        """Return the kind of a name such as `Pod`; raise `ApiError` 404 if it is not served."""
        for kind in self.kinds:
            if kind.name == name:
                return kind
        raise ApiError(404, f"no matches for kind {name!r}")

    def create(self, kind: Kind, namespace: str, body: Mapping[str, Any], write: Write = Write()) -> Object:
        """Store a new object and return it."""
        new = named(kind, _without_nulls(_typed(kind, body)), namespace)
        if kind.has_status:
            new.pop("status", None)
        new = self._admitted(kind, self._with_defaults(kind, new))
        return self._added(kind, updated(kind, None, new, write.updating()), write)

    def update(self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any], write: Write = Write()) -> Object:
        """Replace an object, or its status alone, and return it."""
        body = _without_nulls(_typed(kind, body))
        metadata = body.get("metadata") or {}
        if metadata.get("name", name) != name:
            raise ApiError(
                400, f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
            )
        if kind.is_custom and not metadata.get("resourceVersion"):
            raise invalid(
                kind.name, name, ["metadata.resourceVersion: Invalid value: 0: must be specified for an update"]
            )
        with self.store.lock:
            return self._changed(kind, self.store.get(kind, namespace, name), body, write)

    def patch(self, kind: Kind, namespace: str, name: str, body: Any, content_type: str, write: Write) -> Object:
        """Change an object by a patch and return it; an apply creates what does not exist."""
        with self.store.lock:
            if content_type == APPLY_PATCH:
                return self._apply(kind, namespace, name, body, write)
            old = self.store.get(kind, namespace, name)
            return self._changed(kind, old, _typed(kind, _patched(kind, old, body, content_type)), write)

    def delete(
        self, kind: Kind, namespace: str, name: str, options: Mapping[str, Any], *, dry_run: bool = False
    ) -> Object:
        """Begin or finish the deletion of an object, and return its last state.

        A pod that runs, and an object with finalizers, stays with a time of deletion until somebody finishes it.
        """
        with self.store.lock:
            old = self.store.get(kind, namespace, name)
            wanted = options.get("preconditions") or {}
            for key in ("uid", "resourceVersion"):
                if wanted.get(key) not in (None, old["metadata"][key]):
                    why = f"Precondition failed: {key} in precondition: {wanted[key]}, {key} in object meta: {old['metadata'][key]}"
                    raise conflict(kind.resource, name, why)
            return old if dry_run else self._deleted(kind, old, options)

    def finish(self, kind: Kind, namespace: str, name: str) -> None:
        """Remove an object, and then what it owned."""
        removed = self.store.remove(kind, namespace, name)
        self._collect(removed["metadata"]["uid"])

    def set_status(self, kind: Kind, namespace: str, name: str, change: Callable[[Object], None]) -> Object:
        """Change an object as the cluster's own controllers do, and return it."""
        with self.store.lock:
            found = self.store.get(kind, namespace, name)
            change(found)
            return self.store.replace(kind, found)

    def _apply(self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any], write: Write) -> Object:
        manager = Manager(write.manager, "Apply", write.subresource)
        body = _without_nulls(_typed(kind, {**body, "metadata": {**(body.get("metadata") or {}), "name": name}}))
        if "managedFields" in body["metadata"]:
            raise ApiError(400, "metadata.managedFields must be nil")
        old = next(iter(self.store.find(kind, namespace, lambda each: each["metadata"]["name"] == name)), None)
        if old is None:
            new = self._admitted(kind, self._with_defaults(kind, named(kind, body, namespace)))
            fields = applied(kind, None, body, manager, force=True)["metadata"]["managedFields"]
            return self._added(kind, {**new, "metadata": {**new["metadata"], "managedFields": fields}}, write)
        new = applied(kind, old, body, manager, force=write.force)
        fields = new["metadata"]["managedFields"]
        result = self._successor(kind, old, new, write)
        result["metadata"]["managedFields"] = fields
        return self._stored(kind, result, write)

    def _changed(self, kind: Kind, old: Object, new: Mapping[str, Any], write: Write) -> Object:
        result = self._successor(kind, old, new, write)
        return self._stored(kind, updated(kind, old, result, write.updating()), write)

    def _successor(self, kind: Kind, old: Object, new: Mapping[str, Any], write: Write) -> Object:
        version = (new.get("metadata") or {}).get("resourceVersion")
        if write.subresource == "status":
            new = {**old, "status": new.get("status") or {}}
        elif kind.has_status:
            new = {**new, "status": old.get("status")}
        result = _without_nulls(successor(old, new))
        if version:
            result["metadata"]["resourceVersion"] = version
        result = self._with_defaults(kind, result)
        if kind.name == "Pod" and (problems := list(pod_update_problems(old, result))):
            raise invalid(kind.name, old["metadata"]["name"], problems)
        return self._admitted(kind, result, old)

    def _stored(self, kind: Kind, new: Object, write: Write) -> Object:
        if write.dry_run:
            return new
        stored = self.store.replace(kind, new)
        metadata = stored["metadata"]
        if "deletionTimestamp" in metadata and not metadata.get("finalizers") and kind.name != "Pod":
            self.finish(kind, metadata.get("namespace", ""), metadata["name"])
        return stored

    def _added(self, kind: Kind, new: Object, write: Write) -> Object:
        if write.dry_run:
            return new
        added = self.store.add(kind, new)
        if kind.name == "Namespace":
            account = {"metadata": {"name": "default"}}
            self.create(self.kind("ServiceAccount"), added["metadata"]["name"], account)
        return added

    def _with_defaults(self, kind: Kind, new: Object) -> Object:
        if kind.name == "Pod":
            return {
                **with_pod_defaults(new),
                "status": new.get("status") or {"phase": "Pending", "qosClass": "Burstable"},
            }
        if kind.name == "Secret" and "stringData" in new:
            return _encoded(new)
        return new

    def _admitted(self, kind: Kind, new: Object, old: Object | None = None) -> Object:
        """Return the object if its schema, the rules of its kind, and the cluster allow it."""
        problems = list(kind.problems(new))
        if any("strict decoding" in problem or not kind.is_custom for problem in problems):
            raise ApiError(400, f"{kind.name} in version {kind.version!r} cannot be handled: {'; '.join(problems)}")
        problems += metadata_problems(new)
        if kind.name == "Pod" and not problems:
            problems += pod_problems(new)
        if problems:
            raise invalid(kind.name, new["metadata"].get("name", ""), problems)
        if kind.namespaced and old is None:
            self.store.get(self.kind("Namespace"), "", new["metadata"]["namespace"])
            self._require_account(kind, new)
        return new

    def _require_account(self, kind: Kind, new: Object) -> None:
        if kind.name != "Pod":
            return
        namespace, account = new["metadata"]["namespace"], new["spec"]["serviceAccountName"]
        accounts = self.store.find(self.kind("ServiceAccount"), namespace)
        if account not in [each["metadata"]["name"] for each in accounts]:
            why = f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found'
            raise ApiError(403, f'pods "{new["metadata"]["name"]}" is forbidden: {why}')

    def _deleted(self, kind: Kind, old: Object, options: Mapping[str, Any]) -> Object:
        metadata = old["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        policy = options.get("propagationPolicy")
        if policy == "Orphan":
            self._orphan(metadata["uid"])
        if policy == "Foreground" and self._dependents(metadata["uid"]):
            metadata["finalizers"] = [*metadata.get("finalizers", ()), _FOREGROUND]
        grace = _grace(kind, old, options)
        if kind.name == "Namespace":
            self._empty(name)
        if not metadata.get("finalizers") and not grace:
            self.finish(kind, namespace, name)
            return old
        if grace is not None:
            metadata["deletionGracePeriodSeconds"] = min(grace, metadata.get("deletionGracePeriodSeconds", grace))
        metadata.setdefault("deletionTimestamp", now())
        stored = self.store.replace(kind, old)
        if _FOREGROUND in metadata.get("finalizers", ()):
            self._delete_dependents(metadata["uid"])
        return stored

    def _dependents(self, uid: str) -> list[Object]:
        return [
            each
            for each in self.store.everything()
            if any(owner["uid"] == uid for owner in each["metadata"].get("ownerReferences") or ())
        ]

    def _delete_dependents(self, uid: str) -> None:
        for each in self._dependents(uid):
            owners = {owner["uid"] for owner in each["metadata"]["ownerReferences"]}
            alive = owners & {other["metadata"]["uid"] for other in self.store.everything()} - {uid}
            if not alive and "deletionTimestamp" not in each["metadata"]:
                self.delete(
                    self.kind(each["kind"]), each["metadata"].get("namespace", ""), each["metadata"]["name"], {}
                )

    def _collect(self, uid: str) -> None:
        """Delete what the removed object owned, and finish owners that waited for it."""
        self._delete_dependents(uid)
        for owner in self.store.everything():
            metadata = owner["metadata"]
            if _FOREGROUND in metadata.get("finalizers", ()) and not self._dependents(metadata["uid"]):
                metadata["finalizers"].remove(_FOREGROUND)
                kind = self.kind(owner["kind"])
                self._stored(kind, self.store.replace(kind, owner), Write())

    def _orphan(self, uid: str) -> None:
        for each in self._dependents(uid):
            owners = each["metadata"]["ownerReferences"]
            each["metadata"]["ownerReferences"] = [owner for owner in owners if owner["uid"] != uid]
            self.store.replace(self.kind(each["kind"]), each)

    def _empty(self, namespace: str) -> None:
        for each in self.store.everything():
            if each["metadata"].get("namespace") == namespace:
                self.delete(self.kind(each["kind"]), namespace, each["metadata"]["name"], {"gracePeriodSeconds": 0})


def _patched(kind: Kind, old: Object, body: Any, content_type: str) -> Any:
    if content_type == JSON_PATCH:
        return patched(old, body)
    if content_type == MERGE_PATCH:
        return merged(old, body)
    if content_type == STRATEGIC_PATCH and not kind.is_custom:
        return strategically_merged(old, body, kind.schema)
    raise ApiError(415, f"the body of the request was in an unknown format - got {content_type!r}")


def _typed(kind: Kind, body: Mapping[str, Any]) -> Object:
    """Return the body with its type; raise `ApiError` 400 if it is of another."""
    if not isinstance(body, Mapping):
        raise ApiError(400, f"an object of kind {kind.name} is expected, got {body!r}")
    given = (body.get("apiVersion") or kind.api_version, body.get("kind") or kind.name)
    if given != (kind.api_version, kind.name):
        why = f"does not match the expected {kind.api_version}, Kind={kind.name}"
        raise ApiError(400, f"the object provided is unrecognized: {given[0]}, Kind={given[1]} {why}")
    return {**body, "apiVersion": kind.api_version, "kind": kind.name}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def _encoded(secret: Object) -> Object:
    texts = {name: base64.b64encode(text.encode()).decode() for name, text in secret["stringData"].items()}
    rest = {key: value for key, value in secret.items() if key != "stringData"}
    return {**rest, "data": {**secret.get("data", {}), **texts}}


def _grace(kind: Kind, old: Object, options: Mapping[str, Any]) -> int | None:
    """Return the seconds that a pod has to end; None for what ends at once."""
    if kind.name != "Pod" or old["status"].get("phase") in ("Succeeded", "Failed"):
        return None
    asked = options.get("gracePeriodSeconds")
    return int(old["spec"]["terminationGracePeriodSeconds"] if asked is None else asked)
