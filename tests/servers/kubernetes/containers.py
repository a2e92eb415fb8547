"""What a container of a pod is started with: environment, command, mounts, limits."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.servers.kubernetes.errors import ApiError
from tests.servers.kubernetes.pods import quantity

# Return the decoded content of a ConfigMap or a Secret, by kind and name; raise `ApiError` 404 if there is none.
Content = Callable[[str, str], Mapping[str, bytes]]
_REFERENCE = re.compile(r"\$\$|\$\((\w+)\)")


@dataclass(frozen=True)
class Image:
    """An image that the node can pull.

    entrypoint: what runs where the container names no command. environment: of every container of the image.
    """

    name: str
    digest: str
    entrypoint: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Mount:
    """A folder of the node that a container sees."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class Launch:
    """A container, ready to be started; memory: its limit in bytes."""

    identity: str
    image: Image
    command: list[str]
    environment: Mapping[str, str]
    directory: str
    mounts: list[Mount]
    memory: int | None


@dataclass(frozen=True)
class Ended:
    """How a container ended."""

    exit_code: int
    out_of_memory: bool = False


class Running(Protocol):
    """A container that was started."""

    def ended(self) -> Ended | None:
        """Return how it ended; None while it runs."""

    def lines(self) -> Iterator[bytes]:
        """Yield its output line by line until it ends."""

    def terminate(self) -> None:
        """Send SIGTERM to its first process."""

    def kill(self) -> None:
        """Send SIGKILL to all of its processes."""


class Engine(Protocol):
    """What runs containers."""

    def start(self, launch: Launch) -> Running:
        """Start a container."""


class ConfigurationError(Exception):
    """A container that cannot be made, because what it refers to is not there."""


def launch(
    identity: str, pod: Mapping[str, Any], container: Mapping[str, Any], image: Image, content: Content, folder: Path
) -> Launch:
    """Return how a container is started; raise `ConfigurationError` if it refers to what is not there.

    folder: of the pod, with one folder for each volume in `volumes`.
    """
    environment = {**image.environment, "HOSTNAME": pod["metadata"]["name"]}
    environment |= _environment(pod, container, content)
    command = container.get("command") or image.entrypoint
    arguments = [*command, *(container.get("args") or ())]
    if not arguments:
        raise ConfigurationError("no command specified")
    volumes = folder / "volumes"
    mounts = [_mount(each, volumes) for each in container.get("volumeMounts") or ()]
    limit = (container.get("resources") or {}).get("limits", {}).get("memory")
    return Launch(
        identity,
        image,
        [_expanded(argument, environment) for argument in arguments],
        environment,
        container.get("workingDir", ""),
        mounts,
        None if limit is None else int(quantity(limit)),
    )


def _mount(mount: Mapping[str, Any], volumes: Path) -> Mount:
    return Mount(volumes / mount["name"] / mount.get("subPath", ""), mount["mountPath"], mount.get("readOnly", False))


def make_volumes(pod: Mapping[str, Any], content: Content, folder: Path) -> None:
    """Write the volumes of a pod into its folder: `emptyDir`, `secret`, `configMap`, `hostPath` as a link.

    Raises `ConfigurationError` for another kind, or content that is not there.
    """
    for volume in pod["spec"].get("volumes") or ():
        target = folder / "volumes" / volume["name"]
        target.parent.mkdir(parents=True, exist_ok=True)
        if "hostPath" in volume:
            target.symlink_to(volume["hostPath"]["path"])
            continue
        target.mkdir()
        if source := volume.get("secret") or volume.get("configMap"):
            kind = "Secret" if "secret" in volume else "ConfigMap"
            _write_files(target, source, _content(content, kind, source.get("secretName") or source["name"], source))
        elif "emptyDir" not in volume:
            raise ConfigurationError(f"volume {volume['name']!r} is of a kind that this node has not")


def decoded(found: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the content of a Secret or a ConfigMap."""
    if found["kind"] == "Secret":
        return {name: base64.b64decode(value) for name, value in found.get("data", {}).items()}
    texts = {name: value.encode() for name, value in found.get("data", {}).items()}
    return texts | {name: base64.b64decode(value) for name, value in found.get("binaryData", {}).items()}


def _environment(pod: Mapping[str, Any], container: Mapping[str, Any], content: Content) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        kind, reference = (
            ("Secret", source["secretRef"]) if "secretRef" in source else ("ConfigMap", source["configMapRef"])
        )
        for name, each in _content(content, kind, reference["name"], reference).items():
            found[source.get("prefix", "") + name] = each.decode()
    for variable in container.get("env") or ():
        value_from = variable.get("valueFrom")
        value = _value(pod, value_from, content) if value_from else _expanded(variable.get("value", ""), found)
        if value is not None:
            found[variable["name"]] = value
    return found


def _value(pod: Mapping[str, Any], source: Mapping[str, Any], content: Content) -> str | None:
    if "fieldRef" in source:
        return _field(pod, source["fieldRef"]["fieldPath"])
    for name, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
        if name in source:
            reference = source[name]
            found = _content(content, kind, reference["name"], reference).get(reference["key"])
            if found is None and not reference.get("optional"):
                raise ConfigurationError(f"couldn't find key {reference['key']} in {kind} {reference['name']}")
            return None if found is None else found.decode()
    raise ConfigurationError(f"{source} is a source of variables that this node has not")


def _content(content: Content, kind: str, name: str, reference: Mapping[str, Any]) -> Mapping[str, bytes]:
    try:
        return content(kind, name)
    except ApiError as error:
        if reference.get("optional"):
            return {}
        raise ConfigurationError(str(error)) from error


def _field(pod: Any, path: str) -> str:
    key = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if key is not None:
        return str((pod["metadata"].get(key[1]) or {}).get(key[2], ""))
    for part in path.split("."):
        pod = pod.get(part, "")
    return str(pod)


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    """Return the text with its `$(NAME)` replaced; what names no variable stays."""
    return _REFERENCE.sub(lambda match: "$" if match[1] is None else environment.get(match[1], match[0]), text)


def _write_files(target: Path, source: Mapping[str, Any], content: Mapping[str, bytes]) -> None:
    items = source.get("items") or [{"key": name, "path": name} for name in content]
    for item in items:
        if item["key"] not in content:
            raise ConfigurationError(f"references non-existent key: {item['key']}")
        path = target / item["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content[item["key"]])
