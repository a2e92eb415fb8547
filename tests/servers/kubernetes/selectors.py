"""Label and field selectors of list and watch requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.servers.kubernetes.errors import ApiError

Predicate = Callable[[Mapping[str, Any]], bool]
# What Kubernetes can select by, of any kind; pods and events have more.
_FIELDS = {
    "pods": ("spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase", "status.podIP"),
    "events": (
        *("involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid"),
        *("reason", "type", "source"),
    ),
    "secrets": ("type",),
}
_TERM = re.compile(r"(?P<absent>!\s*)?(?P<key>[\w./-]+)\s*(?:(?P<operator>==|!=|=|\bnotin\b|\bin\b)\s*(?P<value>.*))?")


def label_predicate(selector: str) -> Predicate:
    """Return whether an object's labels match, as a function; raise `ApiError` 400 for a selector that is none."""
    terms = [_label_term(term) for term in re.split(r",(?![^(]*\))", selector) if term.strip()]
    return lambda found: all(term(found["metadata"].get("labels") or {}) for term in terms)


def field_predicate(selector: str, plural: str) -> Predicate:
    """Return whether an object's fields match, as a function; raise `ApiError` 400 for a field that cannot select."""
    terms = [_field_term(term, plural) for term in selector.split(",") if term.strip()]
    return lambda found: all(term(found) for term in terms)


def _label_term(text: str) -> Callable[[Mapping[str, str]], bool]:
    match = _TERM.fullmatch(text.strip())
    if match is None:
        raise ApiError(400, f"unable to parse requirement: {text!r}")
    key, operator, value = match["key"], match["operator"], match["value"]
    if operator is None:
        return lambda labels: (key in labels) is not bool(match["absent"])
    values = {each.strip() for each in value.strip().strip("()").split(",")}
    if operator in ("!=", "notin"):
        return lambda labels: labels.get(key) not in values
    return lambda labels: labels.get(key) in values


def _field_term(text: str, plural: str) -> Predicate:
    path, operator, value = re.split(r"(!=|==|=)", text.strip(), maxsplit=1)
    if path not in ("metadata.name", "metadata.namespace", *_FIELDS.get(plural, ())):
        raise ApiError(400, f'field label not supported: "{path}"')

    def matches(found: Any) -> bool:
        for part in path.split("."):
            found = (found or {}).get(part)
        return ((found or "") == value) is (operator != "!=")

    return matches
