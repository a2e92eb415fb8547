"""Server-side apply: which manager owns which field, conflicts, and fields that nobody wants any more.

https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.servers.kubernetes.errors import ApiError
from tests.servers.kubernetes.kinds import Kind, Schema, property_schema, resolved
from tests.servers.kubernetes.metadata import now

# A field's place: names of fields, and of list items their keys as JSON.
Place = tuple[str, ...]
_UNOWNED = ("apiVersion", "kind")
_UNOWNED_METADATA = (
    *("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp"),
    *("deletionGracePeriodSeconds", "managedFields", "generateName", "selfLink"),
)


@dataclass(frozen=True)
class Manager:
    """A client that writes fields; operation: `Apply`, or `Update` for all other writes."""

    name: str
    operation: str
    subresource: str = ""


def applied(
    kind: Kind, old: Mapping[str, Any] | None, config: Mapping[str, Any], manager: Manager, *, force: bool
) -> Any:
    """Return the object after a manager has applied its configuration.

    force: take fields over that another manager owns with another value; without it they are a conflict, which
    raises `ApiError` 409 with the managers and the fields.
    """
    owned = dict(_leaves(config, kind.schema))
    if old is None:
        return _with_owner(copy.deepcopy(dict(config)), manager, set(owned))
    if not force:
        _refuse_conflicts(old, owned, manager)
    owners = _owners(old)
    new = _merged(old, config, kind.schema)
    others = set().union(*(places for other, places in owners.items() if other != manager))
    for place in sorted(owners.get(manager, set()) - set(owned) - others, key=len, reverse=True):
        _drop(new, place)
    changed = {place for place, value in owned.items() if _get(old, place) != value}
    kept = {other: places - changed for other, places in owners.items() if other != manager}
    return _with_owners(new, {**kept, manager: set(owned)})


def updated(kind: Kind, old: Mapping[str, Any] | None, new: dict[str, Any], manager: Manager) -> dict[str, Any]:
    """Return the object with the fields that an ordinary write changed in the ownership of its manager."""
    leaves = dict(_leaves(new, kind.schema))
    if old is None:
        return _with_owner(new, manager, set(leaves))
    changed = {place for place, value in leaves.items() if _get(old, place) != value}
    owners = {
        other: {place for place in places if place in leaves and place not in changed}
        for other, places in _owners(old).items()
    }
    return _with_owners(new, {**owners, manager: owners.get(manager, set()) | changed})


def _refuse_conflicts(old: Mapping[str, Any], owned: Mapping[Place, Any], manager: Manager) -> None:
    found = [
        (other, place)
        for other, places in _owners(old).items()
        for place in sorted(places)
        if other != manager and place in owned and _get(old, place) != owned[place]
    ]
    if not found:
        return
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{other.name}"', "field": f".{'.'.join(place)}"}
        for other, place in found
    ]
    text = ", ".join(f'conflict with "{other.name}": .{".".join(place)}' for other, place in found)
    plural = "s" if len(found) > 1 else ""
    raise ApiError(409, f"Apply failed with {len(found)} conflict{plural}: {text}", details={"causes": causes})


def _leaves(value: Mapping[str, Any], schema: Schema, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield the fields that have an owner each: scalars, atomic lists, empty maps."""
    for name, each in value.items():
        if (not place and name in _UNOWNED) or (place == ("metadata",) and name in _UNOWNED_METADATA):
            continue
        found = property_schema(schema, name)
        if isinstance(each, Mapping) and each and found.get("x-kubernetes-map-type") != "atomic":
            yield from _leaves(each, found, (*place, name))
        elif isinstance(each, list) and found.get("x-kubernetes-list-type") == "map":
            for item in each:
                key = _key(item, found)
                yield from _leaves(item, resolved(found["items"]), (*place, name, key))
        else:
            yield (*place, name), each


def _key(item: Mapping[str, Any], schema: Schema) -> str:
    keys = schema["x-kubernetes-list-map-keys"]
    return "k:" + json.dumps({key: item[key] for key in keys if key in item}, sort_keys=True)


def _merged(old: Mapping[str, Any], config: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    new = copy.deepcopy(dict(old))
    for name, value in config.items():
        found = property_schema(schema, name)
        if isinstance(value, Mapping) and isinstance(new.get(name), Mapping):
            new[name] = _merged(new[name], value, found)
        elif isinstance(value, list) and found.get("x-kubernetes-list-type") == "map":
            new[name] = _merged_items(new.get(name) or [], value, found)
        else:
            new[name] = copy.deepcopy(value)
    return new


def _merged_items(old: list[Any], config: list[Any], schema: Schema) -> list[Any]:
    items = {_key(item, schema): item for item in old}
    for item in config:
        items[_key(item, schema)] = _merged(items.get(_key(item, schema), {}), item, resolved(schema["items"]))
    return list(items.values())


def _step(value: Any, part: str) -> Any:
    if isinstance(value, list) and part.startswith("k:"):
        wanted = json.loads(part[2:])
        return next((item for item in value if all(item.get(k) == v for k, v in wanted.items())), None)
    return value.get(part) if isinstance(value, Mapping) else None


def _get(value: Any, place: Place) -> Any:
    for part in place:
        value = _step(value, part)
    return value


def _drop(value: Any, place: Place) -> None:
    """Delete a field, and what is then empty around it: the items of lists whose keys alone are left."""
    parent = _get(value, place[:-1])
    if isinstance(parent, dict):
        parent.pop(place[-1], None)
        if place[:-1] and place[-2].startswith("k:") and not parent:
            _get(value, place[:-2]).remove(parent)
        elif place[:-1] and not parent and isinstance(_get(value, place[:-2]), dict):
            _get(value, place[:-2]).pop(place[-2])


def _owners(found: Mapping[str, Any]) -> dict[Manager, set[Place]]:
    entries = found["metadata"].get("managedFields") or ()
    return {
        Manager(entry["manager"], entry["operation"], entry.get("subresource", "")): set(_places(entry["fieldsV1"]))
        for entry in entries
    }


def _places(fields: Mapping[str, Any], place: Place = ()) -> Iterator[Place]:
    for name, inner in fields.items():
        here = (*place, name if name.startswith("k:") else name.removeprefix("f:"))
        yield from _places(inner, here) if inner else [here]


def _with_owner(new: dict[str, Any], manager: Manager, places: set[Place]) -> dict[str, Any]:
    return _with_owners(new, {manager: places})


def _with_owners(new: dict[str, Any], owners: Mapping[Manager, set[Place]]) -> dict[str, Any]:
    entries = []
    for manager, places in owners.items():
        fields: dict[str, Any] = {}
        for place in sorted(places):
            inner = fields
            for part in place:
                inner = inner.setdefault(part if part.startswith("k:") else f"f:{part}", {})
        entry = {"manager": manager.name, "operation": manager.operation, "apiVersion": new["apiVersion"]}
        extra = {"subresource": manager.subresource} if manager.subresource else {}
        entries.append({**entry, **extra, "time": now(), "fieldsType": "FieldsV1", "fieldsV1": fields})
    new["metadata"] = {**new["metadata"], "managedFields": [entry for entry in entries if entry["fieldsV1"]]}
    return new
