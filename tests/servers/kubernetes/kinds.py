"""The kinds of objects that the server knows, and their schemas."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
from referencing import Registry, Resource

# The published OpenAPI of this release of Kubernetes, as kubernetes-validate carries it.
KUBERNETES = "1.34"
_CRDS = Path(__file__).parent / "crds"
_DEFINITIONS = "https://kubernetes.io/api/_definitions.json"
Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """One kind of object: where it is served, and what it may contain."""

    group: str
    version: str
    name: str
    plural: str
    schema: Schema = field(repr=False, compare=False)
    namespaced: bool = True
    has_status: bool = False
    is_custom: bool = False

    @property
    def api_version(self) -> str:
        """The group and the version as objects name them."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """The resource as error messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @cached_property
    def _validator(self) -> Any:
        return jsonschema.Draft202012Validator(self.schema, registry=_registry())

    def problems(self, body: Mapping[str, Any]) -> Iterator[str]:
        """Yield what the schema does not allow: unknown fields, wrong types, missing and malformed values."""
        for error in self._validator.iter_errors(body):
            path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)[1:]
            if error.validator == "additionalProperties":
                unknown = sorted(set(error.instance) - set(error.schema.get("properties", ())))
                yield from (f'strict decoding error: unknown field "{f"{path}.{name}".strip(".")}"' for name in unknown)
            else:
                yield f"{path or 'object'}: Invalid value: {error.message}"


def resolved(schema: Schema) -> Schema:
    """Return the schema that a reference names, or the schema itself."""
    while "$ref" in schema:
        schema = _definitions()["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def property_schema(schema: Schema, name: str) -> Schema:
    """Return the schema of a field; empty if nothing is known of it. The schema that names it may add to its type's."""
    schema = resolved(schema)
    found = schema.get("properties", {}).get(name)
    if found is None:
        extra = schema.get("additionalProperties")
        found = extra if isinstance(extra, Mapping) else {}
    return {**resolved(found), **found}


@cache
def custom_kinds() -> list[Kind]:
    """Return the kinds that the published custom resource definitions in `crds/` define."""
    return [kind for path in sorted(_CRDS.glob("*.json.gz")) for kind in _defined(json.loads(gzip.open(path).read()))]


@cache
def core_kinds() -> list[Kind]:
    """Return the kinds of Kubernetes itself that are served."""
    return [
        _core("", "v1", "Namespace", "namespaces", namespaced=False, has_status=True),
        _core("", "v1", "Node", "nodes", namespaced=False, has_status=True),
        _core("", "v1", "Pod", "pods", has_status=True),
        _core("", "v1", "Secret", "secrets"),
        _core("", "v1", "ConfigMap", "configmaps"),
        _core("", "v1", "ServiceAccount", "serviceaccounts"),
        _core("", "v1", "Service", "services", has_status=True),
        _core("", "v1", "Event", "events"),
        _core("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", has_status=True),
        _core("apps", "v1", "Deployment", "deployments", has_status=True),
        _core("batch", "v1", "Job", "jobs", has_status=True),
        _core("coordination.k8s.io", "v1", "Lease", "leases"),
    ]


def _core(
    group: str, version: str, name: str, plural: str, *, namespaced: bool = True, has_status: bool = False
) -> Kind:
    place = group.removesuffix(".k8s.io") or "core"
    schema = {"$ref": f"{_DEFINITIONS}#/$defs/io.k8s.api.{place}.{version}.{name}"}
    return Kind(group, version, name, plural, schema, namespaced, has_status)


def _defined(definition: Mapping[str, Any]) -> Iterator[Kind]:
    spec = definition["spec"]
    for version in spec["versions"]:
        schema = _closed(version["schema"]["openAPIV3Schema"])
        schema["properties"]["metadata"] = {"$ref": f"{_DEFINITIONS}#/$defs/{_META}"}
        names = (spec["group"], version["name"], spec["names"]["kind"], spec["names"]["plural"])
        has_status = "status" in version.get("subresources", {})
        yield Kind(*names, schema, spec["scope"] == "Namespaced", has_status, is_custom=True)


_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


def _closed(schema: Any) -> Any:
    """Return an OpenAPI schema as a JSON schema that refuses fields which it does not name."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    # Names of properties are not keywords.
    found = {
        name: {key: _closed(part) for key, part in value.items()} if name == "properties" else _closed(value)
        for name, value in schema.items()
    }
    if schema.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    if schema.get("nullable"):
        found["type"] = [found["type"], "null"]
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


@cache
def _definitions() -> dict[str, Any]:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{KUBERNETES}.0-local-strict"
    found: dict[str, Any] = json.loads((folder / "_definitions.json").read_text())
    return found


@cache
def _registry() -> Any:
    return Registry().with_resource(_DEFINITIONS, Resource.from_contents(_definitions())).crawl()
