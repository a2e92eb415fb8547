"""The runtime `Kubernetes`: a pod of an image that has this package, in the cluster that a connection names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from msgspec.structs import force_setattr

from airflow_zen.errors import StepDefinitionError
from airflow_zen.runtimes.image_digest import image_of_key, known_digest
from airflow_zen.runtimes.memory_limits import memory_limits
from airflow_zen.runtimes.pod_options import ClusterRuntime, plain_option, plain_sequence, pod_resources

if TYPE_CHECKING:
    from airflow_zen.stack import Stack
    from airflow_zen.steps.step import Step

CONTAINER = "base"
"""The name of the container that runs the step, as in the Kubernetes provider."""

_ON_FINISH = ("delete_pod", "keep_pod", "delete_succeeded_pod")


class Kubernetes(ClusterRuntime, msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """Run the function in a pod: `Kubernetes("registry/train:1", cpu="4", memory=("4Gi", "16Gi"), gpu=1)`.

    The image needs Python 3.11 or later with this package and what the step imports; Airflow and MLflow are needed only
    if the step uses them. Its digest is in the cache key instead of the distributions of the worker: that in its name,
    or the one that the registry gives its tag. The artifact root must be one that pods reach, such as a bucket.

    `cpu`, `memory`: what the container requests, and its limit; a sequence of memory has one for each try of the task,
    and the last one is that of all later tries. `gpu`: a number of `gpu_resource`. `node_selector`, `tolerations`,
    `service_account`, `volumes`, `volume_mounts`: as in a pod. `secrets`: names of Kubernetes secrets whose keys become
    environment variables, or the provider's `Secret(…)`. `environment`: variables. `pod_override`: a pod, as the
    Kubernetes executor takes one, whose first container is the step's. Objects of the library `kubernetes` and dicts
    are the same here.

    `kubernetes_conn_id`: the connection of the cluster. `namespace`: by default the connection's. `registry_conn_id`: a
    connection with the login to the image's registry. `deferrable`: whether the worker slot is free while the pod runs;
    None follows `[operators] default_deferrable`. `startup_timeout`: seconds that the pod has to be scheduled, and
    again to start. `on_finish_action`: as in `KubernetesPodOperator`. `python`: the interpreter in the image.
    `artifact_root`: the artifact root as pods reach it, where that differs.
    """

    RUN: ClassVar[tuple[str, str]] = ("airflow_zen.runtimes.pod_run", "PodRun")

    image: str
    cpu: str | float = ""
    memory: str | Sequence[str] = ()
    gpu: int = 0
    gpu_resource: str = "nvidia.com/gpu"
    node_selector: Mapping[str, str] = msgspec.field(default_factory=dict)
    tolerations: Sequence[Any] = ()
    service_account: str = ""
    secrets: Sequence[Any] = ()
    volumes: Sequence[Any] = ()
    volume_mounts: Sequence[Any] = ()
    environment: Mapping[str, str] = msgspec.field(default_factory=dict)
    pod_override: Any = msgspec.field(default_factory=dict)
    namespace: str = ""
    kubernetes_conn_id: str = "kubernetes_default"
    registry_conn_id: str = ""
    deferrable: bool | None = None
    startup_timeout: int = 600
    on_finish_action: str = "delete_pod"
    python: str = "python"
    artifact_root: str = ""

    def __post_init__(self) -> None:
        """Check the options where they are written, and put them in one form."""
        image: Any = self.image
        if not isinstance(image, str) or not image.strip():
            raise StepDefinitionError(
                f"Kubernetes(…) takes the name of an image, such as 'registry/train:1', got {image!r}."
            )
        if self.on_finish_action not in _ON_FINISH:
            raise StepDefinitionError(f"on_finish_action must be one of {_ON_FINISH}, got {self.on_finish_action!r}.")
        force_setattr(self, "cpu", str(self.cpu))
        force_setattr(self, "memory", memory_limits(self.memory))
        for name in ("tolerations", "secrets", "volumes", "volume_mounts"):
            force_setattr(self, name, plain_sequence(name, getattr(self, name)))
        for name in ("node_selector", "environment", "pod_override"):
            force_setattr(self, name, plain_option(getattr(self, name)))

    def ingredients(self, step: Step, stack: Stack) -> Mapping[str, str]:
        """Return the digest of the image."""
        return {"image": known_digest(self.image, self.registry_conn_id)}

    def pod(self, address: str, variables: Mapping[str, str], secret: str, try_number: int) -> dict[str, Any]:
        """Return the pod that runs the spec at an address, without a name; a named secret has further variables."""
        container = {
            "name": CONTAINER,
            "image": image_of_key(self.image),
            "command": [self.python, "-P", "-m", "airflow_zen.runner"],
            "args": [address],
            "env": [{"name": key, "value": value} for key, value in {**variables, **self.environment}.items()],
            "envFrom": [
                {"secretRef": {"name": each}} for each in (secret, *self.secrets) if each and isinstance(each, str)
            ],
            "resources": pod_resources(self, try_number),
            "volumeMounts": list(self.volume_mounts),
        }
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": self._spec(container)}

    def _spec(self, container: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "restartPolicy": "Never",
            "containers": [container],
            "nodeSelector": dict(self.node_selector),
            "tolerations": list(self.tolerations),
            "volumes": list(self.volumes),
            "serviceAccountName": self.service_account or None,
        }
