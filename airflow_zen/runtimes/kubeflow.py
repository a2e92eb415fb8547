"""The runtimes `TrainJob` and `PyTorchJob`: a distributed training job of an existing Kubeflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from msgspec.structs import force_setattr

from airflow_zen.errors import StepDefinitionError
from airflow_zen.runtimes.image_digest import image_of_key, known_digest
from airflow_zen.runtimes.memory_limits import memory_limits
from airflow_zen.runtimes.pod_options import ClusterRuntime, plain_option, plain_sequence, pod_resources
from airflow_zen.steps.ranks import RANKED_VARIABLE

if TYPE_CHECKING:
    from airflow_zen.stack import Stack
    from airflow_zen.steps.step import Step

_ON_FINISH = ("delete_job", "keep_job", "delete_succeeded_job")
# As in the cluster's records of who has set a field.
_MANAGER = "airflow-zen"
_LAUNCHER = ("-P", "-m", "torch.distributed.run", "-m", "airflow_zen.runner")
# What torch's launcher reads: each line of a rank, of both streams, begins with the number of the rank.
_PREFIXED_LINES = {"PET_TEE": "3", "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "[rank ${rank}] "}


class JobKind(msgspec.Struct, frozen=True):
    """A kind of training job: its custom resource, and the container and labels of its first pod."""

    group: str
    version: str
    plural: str
    kind: str
    container: str
    first_pod: str
    succeeded: str


class TrainingJob(ClusterRuntime, msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """The options of `TrainJob` and `PyTorchJob`: `TrainJob("registry/train:1", num_nodes=2, gpu=1)`.

    Each node runs the function under torch's elastic launch, `nproc_per_node` times; the value that rank 0 returns is the
    step's. The image needs Python 3.11 or later with torch, this package, and what the step imports. Its digest is in the
    cache key, together with the number of processes. The artifact root must be one that pods reach, such as a bucket.

    `cpu`, `memory`, `gpu`, `gpu_resource`: what each node requests, and its limit, as for `Kubernetes`. `environment`:
    variables. `secrets`: variables from keys of Kubernetes secrets, {"HF_TOKEN": "NAME/KEY"}. `service_account`,
    `node_selector`, `tolerations`, `volumes`, `volume_mounts`: as in a pod. `overrides`: fields of the manifest that are
    merged into it; the cluster refuses unknown ones.

    `kubernetes_conn_id`, `namespace`, `registry_conn_id`, `deferrable`, `python`, `artifact_root`: as for `Kubernetes`.
    `startup_timeout`: seconds until the first pod runs, also in a queue. `on_finish_action`: delete_job, keep_job or
    delete_succeeded_job.
    """

    RUN: ClassVar[tuple[str, str]] = ("airflow_zen.runtimes.kubeflow_run", "TrainingRun")

    image: str
    num_nodes: int = 1
    nproc_per_node: int = 1
    cpu: str | float = ""
    memory: str | Sequence[str] = ()
    gpu: int = 0
    gpu_resource: str = "nvidia.com/gpu"
    environment: Mapping[str, str] = msgspec.field(default_factory=dict)
    secrets: Mapping[str, str] = msgspec.field(default_factory=dict)
    service_account: str = ""
    node_selector: Mapping[str, str] = msgspec.field(default_factory=dict)
    tolerations: Sequence[Any] = ()
    volumes: Sequence[Any] = ()
    volume_mounts: Sequence[Any] = ()
    overrides: Mapping[str, Any] = msgspec.field(default_factory=dict)
    namespace: str = ""
    kubernetes_conn_id: str = "kubernetes_default"
    registry_conn_id: str = ""
    deferrable: bool | None = None
    startup_timeout: int = 600
    on_finish_action: str = "delete_job"
    python: str = "python"
    artifact_root: str = ""

    def __post_init__(self) -> None:
        """Check the options where they are written, and put them in one form."""
        self._check()
        force_setattr(self, "cpu", str(self.cpu))
        force_setattr(self, "memory", memory_limits(self.memory))
        for option in ("tolerations", "volumes", "volume_mounts"):
            force_setattr(self, option, plain_sequence(option, getattr(self, option)))
        for option in ("node_selector", "environment", "secrets", "overrides"):
            force_setattr(self, option, plain_option(getattr(self, option)))

    def _check(self) -> None:
        name = type(self).__name__
        image: Any = self.image
        if not isinstance(image, str) or not image.strip():
            raise StepDefinitionError(f"{name}(…) takes the name of an image, such as 'train:1', got {image!r}.")
        for option in ("num_nodes", "nproc_per_node"):
            number: Any = getattr(self, option)
            if not isinstance(number, int) or number < 1:
                raise StepDefinitionError(f"{name}({option}=…) must be 1 or more, got {number!r}.")
        if self.on_finish_action not in _ON_FINISH:
            raise StepDefinitionError(f"on_finish_action must be one of {_ON_FINISH}, got {self.on_finish_action!r}.")
        for variable, place in self.secrets.items():
            if place.count("/") != 1:
                raise StepDefinitionError(f"secrets[{variable!r}] must be 'NAME/KEY' of a secret, got {place!r}.")

    def kind(self) -> JobKind:
        """Return the kind of job."""
        raise NotImplementedError

    def specification(self, container: Mapping[str, Any]) -> dict[str, Any]:
        """Return the specification of the job from that of its container, without `overrides`."""
        raise NotImplementedError

    def ingredients(self, step: Step, stack: Stack) -> Mapping[str, str]:
        """Return the digest of the image, and the number of processes, on which results of training depend."""
        digest = known_digest(self.image, self.registry_conn_id)
        return {"image": digest, "processes": f"{self.num_nodes} x {self.nproc_per_node}"}

    def manifest(
        self, name: str, address: str, variables: Mapping[str, str], secret_names: Mapping[str, str], try_number: int
    ) -> dict[str, Any]:
        """Return the job that runs the spec at an address; `secret_names` are variables by their place, NAME/KEY."""
        kind = self.kind()
        values = {**variables, "PYTHONSAFEPATH": "1", RANKED_VARIABLE: "1", **_PREFIXED_LINES, **self.environment}
        places = {**secret_names, **self.secrets}
        container = {
            "image": image_of_key(self.image),
            "command": [self.python, *_LAUNCHER],
            "args": [address],
            "env": [
                *({"name": key, "value": value} for key, value in values.items()),
                *({"name": key, "valueFrom": _secret_key(place)} for key, place in places.items()),
            ],
            "resources": pod_resources(self, try_number),
        }
        made = {
            "apiVersion": f"{kind.group}/{kind.version}",
            "kind": kind.kind,
            "metadata": {"name": name},
            "spec": self.specification({key: value for key, value in container.items() if value}),
        }
        return dict(_merged(made, self.overrides))

    def pod_options(self) -> dict[str, Any]:
        """Return the options of the pod that are set."""
        options = {
            "serviceAccountName": self.service_account,
            "nodeSelector": dict(self.node_selector),
            "tolerations": list(self.tolerations),
            "volumes": list(self.volumes),
        }
        return {name: value for name, value in options.items() if value}


_TRAIN_JOB = JobKind(
    *("trainer.kubeflow.org", "v1alpha1", "trainjobs", "TrainJob"),
    container="node",
    first_pod="jobset.sigs.k8s.io/jobset-name={name},batch.kubernetes.io/job-completion-index=0",
    succeeded="Complete",
)
_PYTORCH_JOB = JobKind(
    *("kubeflow.org", "v1", "pytorchjobs", "PyTorchJob"),
    container="pytorch",
    first_pod="training.kubeflow.org/job-name={name},training.kubeflow.org/replica-type=master",
    succeeded="Succeeded",
)


class TrainJob(TrainingJob, frozen=True, kw_only=True):
    """Run the function in a `TrainJob` of Kubeflow Trainer v2; the options are those of `TrainingJob`.

    `runtime_ref`: the training runtime, whose job `node` has a container `node`, as those for torch do. `runtime_kind`:
    `ClusterTrainingRuntime`, or `TrainingRuntime` for one of the namespace.
    """

    runtime_ref: str = "torch-distributed"
    runtime_kind: str = "ClusterTrainingRuntime"

    def kind(self) -> JobKind:
        """Return the kind of job."""
        return _TRAIN_JOB

    def specification(self, container: Mapping[str, Any]) -> dict[str, Any]:
        """Return the specification; what a `TrainJob` says of pods is a patch of its runtime."""
        resources = {"resourcesPerNode": container["resources"]} if "resources" in container else {}
        own = {name: value for name, value in container.items() if name != "resources"}
        made: dict[str, Any] = {
            "runtimeRef": {"name": self.runtime_ref, "kind": self.runtime_kind, "apiGroup": _TRAIN_JOB.group},
            "trainer": {**own, **resources, "numNodes": self.num_nodes, "numProcPerNode": self.nproc_per_node},
        }
        pod = self.pod_options()
        if self.volume_mounts:
            pod["containers"] = [{"name": _TRAIN_JOB.container, "volumeMounts": list(self.volume_mounts)}]
        if pod:
            job = {"name": _TRAIN_JOB.container, "template": {"spec": {"template": {"spec": pod}}}}
            patch = {"template": {"spec": {"replicatedJobs": [job]}}}
            made["runtimePatches"] = [{"manager": _MANAGER, "trainingRuntimeSpec": patch}]
        return made


class PyTorchJob(TrainingJob, frozen=True):
    """Run the function in a `PyTorchJob` of Kubeflow's training operator v1; the options are those of `TrainingJob`."""

    def kind(self) -> JobKind:
        """Return the kind of job."""
        return _PYTORCH_JOB

    def specification(self, container: Mapping[str, Any]) -> dict[str, Any]:
        """Return the specification: a master, and workers for further nodes; a failed pod fails the job."""
        own = {"name": _PYTORCH_JOB.container, **container}
        if self.volume_mounts:
            own["volumeMounts"] = list(self.volume_mounts)
        template = {"spec": {**self.pod_options(), "containers": [own]}}
        replicas = {"Master": 1, "Worker": self.num_nodes - 1}
        return {
            "nprocPerNode": str(self.nproc_per_node),
            "pytorchReplicaSpecs": {
                name: {"replicas": number, "restartPolicy": "Never", "template": template}
                for name, number in replicas.items()
                if number
            },
        }


def _secret_key(place: str) -> dict[str, Any]:
    name, _, key = place.partition("/")
    return {"secretKeyRef": {"name": name, "key": key}}


def _merged(base: Any, over: Any) -> Any:
    """Return a part of a manifest with overrides; of lists, parts of the same name are merged."""
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return {**base, **{name: _merged(base.get(name), value) for name, value in over.items()}}
    named = [each.get("name") if isinstance(each, Mapping) else None for each in (*_listed(base), *_listed(over))]
    if not isinstance(base, list) or not isinstance(over, list) or not all(named):
        return over
    both = {each["name"]: each for each in base}
    for each in over:
        both[each["name"]] = _merged(both.get(each["name"]), each)
    return list(both.values())


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
