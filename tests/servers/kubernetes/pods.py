"""Rules and default values of pods beyond their schema."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.servers.kubernetes.metadata import is_dns_label

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(m|[kMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")
_FACTORS = {"m": 1e-3} | {
    unit + binary: (1024 if binary else 1000) ** power
    for power, units in enumerate(("", "kK", "M", "G", "T", "P", "E"))
    for unit in units
    for binary in ("", "i")
}
_POLICIES = ("Always", "OnFailure", "Never")
_POD = {
    "restartPolicy": "Always",
    "dnsPolicy": "ClusterFirst",
    "terminationGracePeriodSeconds": 30,
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "serviceAccountName": "default",
    "enableServiceLinks": True,
}
_CONTAINER = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "resources": {}}


def quantity(value: str | float) -> float:
    """Return the number that a quantity such as `16Gi`, `500m` or `1e3` means; raise `ValueError` if it means none."""
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        raise ValueError(f"quantities must match the regular expression '{_QUANTITY.pattern}', got {value!r}")
    number, unit = float(match[1]), match[2] or ""
    return number * (
        10 ** float(unit[1:]) if unit[:1] in ("e", "E") and unit[1:].lstrip("+-").isdigit() else _FACTORS.get(unit, 1)
    )


def containers(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the init containers and the containers of a pod."""
    return [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]


def requests(pod: Mapping[str, Any]) -> dict[str, float]:
    """Return what a pod asks of a node: the sum of its containers' requests."""
    total: dict[str, float] = {}
    for container in pod["spec"]["containers"]:
        for name, value in _requests(container).items():
            total[name] = total.get(name, 0) + quantity(value)
    return total


def with_pod_defaults(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pod with the values that the server gives to what its author left open."""
    found = copy.deepcopy(dict(pod))
    spec = found["spec"] = {**_POD, **(found.get("spec") or {})}
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        for name, value in _CONTAINER.items():
            container.setdefault(name, copy.deepcopy(value))
        image = container.get("image", "").rpartition("/")[2]
        container.setdefault(
            "imagePullPolicy", "Always" if ":" not in image or image.endswith(":latest") else "IfNotPresent"
        )
        if container["resources"].get("limits"):
            container["resources"]["requests"] = _requests(container)
    return found


def pod_problems(pod: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a pod's schema allows and the server does not."""
    spec = pod["spec"]
    if not spec.get("containers"):
        yield "spec.containers: Required value"
        return
    if spec["restartPolicy"] not in _POLICIES:
        yield f'spec.restartPolicy: Unsupported value: "{spec["restartPolicy"]}": supported values: {", ".join(_POLICIES)}'
    volumes = [volume["name"] for volume in spec.get("volumes") or ()]
    yield from _name_problems("spec.volumes", volumes)
    yield from _name_problems("spec.containers", [container["name"] for container in containers(pod)])
    for index, container in enumerate(spec["containers"]):
        yield from _container_problems(f"spec.containers[{index}]", container, volumes)
    for index, container in enumerate(spec.get("initContainers") or ()):
        yield from _container_problems(f"spec.initContainers[{index}]", container, volumes)


def pod_update_problems(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield what may not change in a pod: all of its spec but images, deadlines, and tolerations that are added."""
    if _fixed(old["spec"]) != _fixed(new["spec"]):
        yield (
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.terminationGracePeriodSeconds`"
            " (allow it to be set to 1 if it was previously negative),`spec.tolerations` (only additions to existing tolerations)"
        )
    before, after = old["spec"].get("tolerations") or [], new["spec"].get("tolerations") or []
    if any(toleration not in after for toleration in before):
        yield "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"


def _requests(container: Mapping[str, Any]) -> dict[str, Any]:
    resources = container.get("resources") or {}
    return {**(resources.get("limits") or {}), **(resources.get("requests") or {})}


def _name_problems(place: str, names: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if not is_dns_label(name):
            yield f'{place}.name: Invalid value: "{name}": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or "-"'
        if name in seen:
            yield f'{place}.name: Duplicate value: "{name}"'
        seen.add(name)


def _container_problems(place: str, container: Mapping[str, Any], volumes: list[str]) -> Iterator[str]:
    if not container.get("image"):
        yield f"{place}.image: Required value"
    for mount in container.get("volumeMounts") or ():
        if mount["name"] not in volumes:
            yield f'{place}.volumeMounts.name: Not found: "{mount["name"]}"'
    for variable in container.get("env") or ():
        if not variable.get("name"):
            yield f"{place}.env.name: Required value"
        if variable.get("value") and variable.get("valueFrom"):
            yield f"{place}.env.valueFrom: Invalid value: may not be specified when `value` is not empty"
    yield from _resource_problems(f"{place}.resources", container.get("resources") or {})


def _resource_problems(place: str, resources: Mapping[str, Any]) -> Iterator[str]:
    for part in ("limits", "requests"):
        for name, value in (resources.get(part) or {}).items():
            try:
                quantity(value)
            except ValueError as error:
                yield f"{place}.{part}.{name}: Invalid value: {error}"
                return
    limits, wanted = resources.get("limits") or {}, resources.get("requests") or {}
    for name, value in wanted.items():
        if "/" in name and str(limits.get(name)) != str(value):
            yield f'{place}.requests: Invalid value: "{value}": must be equal to {name} limit of {limits.get(name)}'
        elif name in limits and quantity(value) > quantity(limits[name]):
            yield f'{place}.requests: Invalid value: "{value}": must be less than or equal to {name} limit of {limits[name]}'


def _fixed(spec: Mapping[str, Any]) -> dict[str, Any]:
    free = ("tolerations", "activeDeadlineSeconds", "nodeName", "containers", "initContainers")
    images = [
        {**container, "image": ""} for container in (*(spec.get("initContainers") or ()), *spec.get("containers", ()))
    ]
    return {**{key: value for key, value in spec.items() if key not in free}, "all": images}
