"""Rules and values of objects' metadata."""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tests.servers.kubernetes.errors import ApiError
from tests.servers.kubernetes.kinds import Kind

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_SERVER_SET = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
_ANNOTATIONS = 256 * 1024
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)
_KEY_RULE = "name part must consist of alphanumeric characters, '-', '_' or '.'"


def now(timespec: str = "seconds") -> str:
    """Return the time as objects carry it."""
    return datetime.now(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def is_dns_label(name: str) -> bool:
    """Whether a container, a volume or a namespace may have the name."""
    return len(name) <= 63 and _LABEL.fullmatch(name) is not None


def named(kind: Kind, new: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """Return a new object with what the server gives it: name, namespace, uid, time, generation.

    Raises `ApiError` 400 if the object names another namespace than the request.
    """
    metadata = {key: value for key, value in (new.get("metadata") or {}).items() if key not in _SERVER_SET}
    if metadata.get("namespace", namespace) != namespace:
        raise ApiError(400, "the namespace of the provided object does not match the namespace sent on the request")
    metadata.pop("resourceVersion", None)
    metadata.pop("managedFields", None)
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = metadata["generateName"] + "".join(secrets.choice(_SUFFIX) for _ in range(5))
    if kind.namespaced:
        metadata["namespace"] = namespace
    given = {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
    return {**new, "metadata": {**metadata, **given}}


def successor(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return a new state with the metadata that only the server sets, and the next generation if its wishes changed."""
    metadata = {**(new.get("metadata") or {})}
    for key in (*_SERVER_SET, "name", "namespace", "managedFields"):
        metadata.pop(key, None)
        if key in old["metadata"]:
            metadata[key] = old["metadata"][key]
    if _wishes(old) != _wishes(new):
        metadata["generation"] = old["metadata"].get("generation", 1) + 1
    return {**new, "metadata": metadata}


def metadata_problems(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is not allowed in the metadata of an object."""
    metadata = found["metadata"]
    name = metadata.get("name") or ""
    if not name:
        yield "metadata.name: Required value: name or generateName is required"
    elif len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        yield f'metadata.name: Invalid value: "{name}": {_SUBDOMAIN_RULE}'
    for label in (metadata.get("labels") or {}).items():
        yield from _label_problems(*label)
    yield from _annotation_problems(metadata.get("annotations") or {})
    for owner in metadata.get("ownerReferences") or ():
        if not all(owner.get(field) for field in ("apiVersion", "kind", "name", "uid")):
            yield "metadata.ownerReferences: Required value: apiVersion, kind, name and uid must not be empty"


def _label_problems(key: str, value: str) -> Iterator[str]:
    if not _KEY.fullmatch(key):
        yield f'metadata.labels: Invalid value: "{key}": {_KEY_RULE}'
    if not _VALUE.fullmatch(value):
        yield f'metadata.labels: Invalid value: "{value}": a valid label must be an empty string or {_KEY_RULE}'
    if len(value) > 63:
        yield f'metadata.labels: Invalid value: "{value}": must be no more than 63 characters'


def _annotation_problems(annotations: Mapping[str, str]) -> Iterator[str]:
    for key in annotations:
        if not _KEY.fullmatch(key.lower()):
            yield f'metadata.annotations: Invalid value: "{key}": {_KEY_RULE}'
    if sum(len(key) + len(value.encode()) for key, value in annotations.items()) > _ANNOTATIONS:
        yield f"metadata.annotations: Too long: may not be more than {_ANNOTATIONS} bytes"


def _wishes(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in ("metadata", "status", "apiVersion", "kind")}
