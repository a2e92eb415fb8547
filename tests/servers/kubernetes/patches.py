"""JSON, merge and strategic merge patches (RFC 6902, RFC 7386, and Kubernetes' own)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from tests.servers.kubernetes.errors import ApiError
from tests.servers.kubernetes.kinds import Schema, property_schema, resolved


def merged(old: Any, patch: Any) -> Any:
    """Return an object after a merge patch: null deletes a field, and a list replaces a list."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    new = dict(old) if isinstance(old, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            new.pop(name, None)
        else:
            new[name] = merged(new.get(name), value)
    return new


def strategically_merged(old: Any, patch: Any, schema: Schema) -> Any:
    """Return an object after a strategic merge patch: a list whose type has a merge key is merged by that key."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    new = dict(old) if isinstance(old, Mapping) else {}
    for name, value in patch.items():
        if name.startswith("$"):
            _apply_directive(new, name, value)
        elif value is None or (isinstance(value, Mapping) and value.get("$patch") == "delete"):
            new.pop(name, None)
        elif isinstance(value, list):
            new[name] = _merged_list(new.get(name) or [], value, property_schema(schema, name))
        else:
            new[name] = strategically_merged(new.get(name), value, property_schema(schema, name))
    return new


def patched(old: Any, operations: Any) -> Any:
    """Return an object after the operations of a JSON patch; raise `ApiError` 422 if one does not fit."""
    new = copy.deepcopy(old)
    if not isinstance(operations, list):
        raise ApiError(400, "json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    for operation in operations:
        try:
            new = _after_operation(new, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            message = f"the server rejected our request due to an error in our request: {operation} ({error!r})"
            raise ApiError(422, message) from error
    return new


def _apply_directive(new: dict[str, Any], directive: str, value: Any) -> None:
    action, _, name = directive.partition("/")
    if action == "$deleteFromPrimitiveList":
        new[name] = [each for each in new.get(name) or [] if each not in value]
    elif action == "$retainKeys":
        for other in set(new) - set(value):
            del new[other]
    elif action not in ("$setElementOrder", "$patch"):
        raise ApiError(400, f"unknown directive {directive!r}")


def _merged_list(old: Sequence[Any], patch: Sequence[Any], schema: Schema) -> list[Any]:
    if "merge" not in str(schema.get("x-kubernetes-patch-strategy", "")):
        return copy.deepcopy(list(patch))
    key = schema.get("x-kubernetes-patch-merge-key")
    if key is None:
        return [*old, *(each for each in patch if each not in old)]
    if any(each.get("$patch") == "replace" for each in patch):
        return [each for each in patch if "$patch" not in each]
    new = list(old)
    for each in patch:
        index = next((at for at, present in enumerate(new) if present.get(key) == each.get(key)), None)
        if each.get("$patch") == "delete":
            new = [present for present in new if present.get(key) != each.get(key)]
        elif index is None:
            new.append(strategically_merged({}, each, resolved(schema["items"])))
        else:
            new[index] = strategically_merged(new[index], each, resolved(schema["items"]))
    return new


def _after_operation(document: Any, operation: Mapping[str, Any]) -> Any:
    kind = operation["op"]
    if kind == "test":
        if _value_at(document, operation["path"]) != operation["value"]:
            raise ValueError("testing value failed")
        return document
    if kind in ("move", "copy"):
        value = copy.deepcopy(_value_at(document, operation["from"]))
        if kind == "move":
            document = _after_operation(document, {"op": "remove", "path": operation["from"]})
        return _after_operation(document, {"op": "add", "path": operation["path"], "value": value})
    *parents, last = _parts(operation["path"])
    target = _value_at(document, parents)
    if kind != "remove":
        _put(target, last, operation["value"], insert=kind == "add")
    elif isinstance(target, list):
        target.pop(int(last))
    else:
        del target[last]
    return document


def _put(target: Any, name: str, value: Any, *, insert: bool) -> None:
    if isinstance(target, list):
        index = len(target) if name == "-" else int(name)
        if index > len(target):
            raise IndexError(index)
        target[index : index if insert else index + 1] = [value]
    else:
        if not insert:
            target[name]
        target[name] = value


def _value_at(document: Any, path: str | Sequence[str]) -> Any:
    for part in _parts(path) if isinstance(path, str) else path:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def _parts(path: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]
