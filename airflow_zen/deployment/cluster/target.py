"""The base of targets in a Kubernetes cluster: shared options, and the interface to a custom resource."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import msgspec
from msgspec.structs import force_setattr, replace

from airflow_zen.deployment.base import Deployment, DeploymentRequest, LocalTarget
from airflow_zen.deployment.protocols import Rows, encode_v2
from airflow_zen.errors import DeploymentFailed, StepDefinitionError

if TYPE_CHECKING:
    from airflow_zen.deployment.cluster.credentials import StoreSecret
    from airflow_zen.deployment.cluster.objects import Objects
    from airflow_zen.deployment.cluster.rollout import Rollout
    from airflow_zen.stack import Stack

CANDIDATE = "-candidate"
"""The suffix of the name of an object that is only smoke-tested."""

# A candidate's name, and what controllers append to it, must be at most 63 characters.
_NAME_LIMIT = 40
_SCHEMES = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}
# How a model is deployed, and not what.
_OF_THE_TASK = {"deferrable": None, "timeout": 0, "canary": None}


class Resource(msgspec.Struct, frozen=True):
    """A kind of custom resource."""

    group: str
    version: str
    plural: str
    kind: str


class Progress(msgspec.Struct, frozen=True):
    """The progress of an object's current specification by its status, and the reason."""

    state: Literal["waiting", "ready", "failed"]
    message: str = ""


class ModelSource(msgspec.Struct, frozen=True):
    """The access of the cluster to a model: the address, a service account, a secret.

    `names` are the `model`, `version`, `deployment` and `token` that a logger's URL may name; without them nothing is logged.
    """

    storage_uri: str
    service_account: str = ""
    secret: str = ""
    names: Mapping[str, str] = msgspec.field(default_factory=dict)

    def logger(self, url: str) -> dict[str, str] | None:
        """Return what sends all requests and answers to a URL; None where nothing is logged."""
        if not (url and self.names):
            return None
        if "{token}" in url and not self.names.get("token"):
            raise DeploymentFailed(
                f"The {{token}} in logger={url!r} is derived from that of clients: set token_conn_id."
            )
        for name, value in self.names.items():
            url = url.replace(f"{{{name}}}", quote(value))
        return {"mode": "all", "url": url}


class Address(msgspec.Struct, frozen=True):
    """The URL of an object, and the headers by which an ingress routes to it."""

    url: str
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)


class ClusterTarget(LocalTarget, frozen=True, kw_only=True, repr_omit_defaults=True):
    """A target that serves on this machine, or in the cluster that `kubernetes` names.

    `kubernetes`: the Airflow connection of the cluster, empty for this machine. `namespace`: by default the connection's.
    `service_account`, `secret`: what exists there and reads the artifact root; by default they are made from the
    connection of the artifact root. `artifact_root`: the artifact root as the cluster reaches it, where that differs, such
    as `pvc://models/zen`. `ingress`: the URL that the worker reaches the models by, where it is outside of the cluster.
    `min_replicas`, `max_replicas`: 0 for the cluster's defaults. `override`: fields of the manifest that are merged into
    it. `deferrable`: whether the worker slot is free while the model starts; None follows `[operators]
    default_deferrable`. `timeout`: seconds without a change of the object after which it has failed.
    """

    kubernetes: str = ""
    namespace: str = ""
    service_account: str = ""
    secret: str = ""
    artifact_root: str = ""
    ingress: str = ""
    min_replicas: int = 0
    max_replicas: int = 0
    override: Mapping[str, Any] = msgspec.field(default_factory=dict)
    deferrable: bool | None = None
    timeout: int = 900

    def __post_init__(self) -> None:
        """Check the options where they are written."""
        force_setattr(self, "override", plain_option(self.override))
        if self.kubernetes:
            return
        for name, default in zip(self.__struct_fields__, self.__struct_defaults__, strict=True):
            value = getattr(self, name)
            # A mapping's default is made by a factory.
            if name in (*_CLUSTER_OPTIONS, *self.cluster_options()) and value and value != default:
                raise StepDefinitionError(
                    f"{type(self).__name__}({name}={value!r}) is for a cluster: name its connection with "
                    "kubernetes='kubernetes_default'."
                )

    @property
    def canary_percent(self) -> int | None:
        """The initial share of requests of a new version; None for all."""
        return None

    def cluster_options(self) -> tuple[str, ...]:
        """Return the names of its options that apply only to a cluster."""
        return ()

    def predict_path(self, name: str) -> str:
        """Return the path of protocol V2."""
        return f"/v2/models/{object_name(name) if self.kubernetes else name}/infer"

    def encode_rows(self, rows: Rows) -> Mapping[str, Any]:
        """Return a body of protocol V2."""
        return encode_v2(rows)

    def resource(self) -> Resource:
        """Return the kind of object that serves a model."""
        raise NotImplementedError

    def manifest(self, name: str, source: ModelSource) -> dict[str, Any]:
        """Return the specification of an object, without `override`."""
        raise NotImplementedError

    def progress(self, found: Mapping[str, Any]) -> Progress:
        """Return the progress of the current specification by the object's status."""
        raise NotImplementedError

    def address(self, found: Mapping[str, Any]) -> Address:
        """Return the address of a ready object."""
        raise NotImplementedError

    def store_secret(self, options: Mapping[str, Any]) -> StoreSecret | None:
        """Return the secret that reads the artifact root, in the form of the serving system; None if none is needed."""
        raise NotImplementedError

    def storage_uri(self, uri: str, options: Mapping[str, Any]) -> str:
        """Return an address in the artifact root as the serving system writes it; options: fsspec's."""
        scheme, separator, path = uri.partition("://")
        return f"{_SCHEMES.get(scheme, scheme)}{separator}{path}"

    def key(self, request: DeploymentRequest) -> str:
        """Return the identity of the served model; options of the rollout are not part of it."""
        options = {name: value for name, value in _OF_THE_TASK.items() if hasattr(self, name)}
        return super(ClusterTarget, replace(self, **options)).key(request)

    def find_current(self, request: DeploymentRequest) -> Deployment | None:
        """Return the deployment if its object is ready, and has what is asked for."""
        if not self.kubernetes:
            return super().find_current(request)
        return self._rollout(request.name).find_current(request)

    def resume(self, request: DeploymentRequest) -> Deployment | None:
        """Wait until the object is ready that the journal says is being changed to the request's."""
        return self._rollout(request.name).resume(request) if self.kubernetes else super().resume(request)

    def deploy(self, request: DeploymentRequest, stack: Stack) -> Deployment:
        """Serve the model on this machine; in a cluster, test an object beside the old one first."""
        if not self.kubernetes:
            return super().deploy(request, stack)
        return self._rollout(request.name).deploy(request, stack)

    def stop(self, deployment: Deployment) -> None:
        """Delete all objects of a deployment."""
        if not self.kubernetes:
            return super().stop(deployment)
        return self._objects().delete_all(object_name(deployment.name))

    def logs(self, deployment: Deployment, lines: int) -> str:
        """Return the end of the logs of the pods that serve the model."""
        if not self.kubernetes:
            return super().logs(deployment, lines)
        return self._objects().logs(object_name(deployment.name), lines)

    def describe_state(self, deployment: Deployment) -> str:
        """Return the state from the object's status."""
        if not self.kubernetes:
            return super().describe_state(deployment)
        objects, name = self._objects(), object_name(deployment.name)
        found = objects.get(name)
        if found is None:
            return "stopped" if objects.get(f"{name}{CANDIDATE}") is None else "its candidate is left"
        progress = self.progress(found)
        words = {"ready": "serving", "waiting": "starting", "failed": "failed"}[progress.state]
        return f"{words}: {progress.message}" if progress.message and progress.state != "ready" else words

    def _rollout(self, name: str) -> Rollout:
        rollout: Rollout = self._import("rollout").Rollout(self, name)
        return rollout

    def _objects(self) -> Objects:
        objects: Objects = self._import("objects").Objects(self)
        return objects

    def _import(self, name: str) -> Any:
        # By name: these files import this one, and a DAG file that is parsed does not need them.
        try:
            return import_module(f"airflow_zen.deployment.cluster.{name}")
        except ImportError as error:
            raise DeploymentFailed(
                f"{self!r} needs the Kubernetes provider: pip install airflow-provider-zen[kubernetes]."
            ) from error

    def body(self, name: str, source: ModelSource) -> dict[str, Any]:
        """Return the object of a name as it is applied, with the user's overrides."""
        resource = self.resource()
        made = {
            "apiVersion": f"{resource.group}/{resource.version}",
            "kind": resource.kind,
            "metadata": {"name": name},
            "spec": self.manifest(name, source),
        }
        return _merged(made, self.override)

    def replica_fields(self) -> dict[str, int]:
        """Return the numbers of replicas that are set."""
        return {
            name: value
            for name, value in (("minReplicas", self.min_replicas), ("maxReplicas", self.max_replicas))
            if value
        }


_CLUSTER_OPTIONS = tuple(name for name in ClusterTarget.__struct_fields__ if name != "kubernetes")


def object_name(name: str) -> str:
    """Return the name of a deployment, or of its candidate, as a valid Kubernetes name: a DNS label."""
    stem = name.removesuffix(CANDIDATE)
    words = re.sub("[^a-z0-9]+", "-", stem.lower()).strip("-")[:_NAME_LIMIT].strip("-")
    if not words:
        raise DeploymentFailed(f"No object in a cluster can be named {name!r}: deploy it with name='…' of letters.")
    return f"{'' if words[0].isalpha() else 'm-'}{words}{CANDIDATE if stem != name else ''}"


def is_current(found: Mapping[str, Any]) -> bool:
    """Whether the status of an object refers to its current specification."""
    seen, written = found.get("status", {}).get("observedGeneration"), found["metadata"].get("generation")
    return seen is not None and (written is None or seen >= written)


def condition(found: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return a condition of an object's status; empty where it has none of the type."""
    conditions = found.get("status", {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] == kind), {})


def unmet(found: Mapping[str, Any]) -> str:
    """Return the unmet conditions of an object as text."""
    texts = []
    for each in found.get("status", {}).get("conditions") or ():
        if each["status"] != "True":
            why = " ".join(filter(None, (each.get("reason"), each.get("message"))))
            texts.append(f"{each['type']} is {each['status']}{f' ({why})' if why else ''}")
    return "; ".join(texts)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        name: value for name, value in over.items() if isinstance(value, Mapping) and isinstance(base.get(name), dict)
    }
    return {**base, **over, **{name: _merged(base[name], value) for name, value in both.items()}}


def plain_option(value: Any) -> Any:
    """Return an option in literals with a fixed order, because the repr of a target is its text."""
    if isinstance(value, Mapping):
        return {str(key): plain_option(held) for key, held in sorted(value.items())}
    return [plain_option(each) for each in value] if isinstance(value, list | tuple) else value


def failure_of(target: ClusterTarget, found: Mapping[str, Any]) -> str:
    """Return why an object that is not ready cannot become ready; empty while it can."""
    progress = target.progress(found)
    if progress.state == "failed":
        return progress.message.rstrip(".")
    if progress.state == "waiting" and (silent := seconds_without_change(found)) > target.timeout:
        return f"its object has not changed for {silent:.0f} seconds. {unmet(found)}".rstrip(". ")
    return ""


def seconds_without_change(found: Mapping[str, Any]) -> float:
    """Return the seconds since the last change of an object or its status, by the cluster's clock."""
    metadata = found["metadata"]
    times = [metadata.get("creationTimestamp"), *(each.get("time") for each in metadata.get("managedFields") or ())]
    times += [each.get("lastTransitionTime") for each in found.get("status", {}).get("conditions") or ()]
    return time.time() - max((datetime.fromisoformat(each).timestamp() for each in times if each), default=time.time())
