"""A stand-in for Kubeflow's controllers: it makes the pods of training jobs, and writes the status of the jobs."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from kubernetes.client import CoreV1Api, CustomObjectsApi
from kubernetes.client.rest import ApiException

from tests.servers.process import free_port

TRAIN_JOBS = ("trainer.kubeflow.org", "v1alpha1", "default", "trainjobs")
PYTORCH_JOBS = ("kubeflow.org", "v1", "default", "pytorchjobs")
_TIME = "2026-01-01T00:00:00Z"


@dataclass
class TrainingOperator:
    """What the controllers do, as far as the runtimes see it; the pods of a job really run.

    created: the jobs that were seen, as they were applied. paused: whether no pods are made.
    """

    custom: CustomObjectsApi
    core: CoreV1Api
    created: list[dict] = field(default_factory=list)
    paused: bool = False

    def jobs(self):
        """Return the jobs in the cluster, with their places."""
        for place in (TRAIN_JOBS, PYTORCH_JOBS):
            yield from ((place, job) for job in self.custom.list_namespaced_custom_object(*place)["items"])

    def reconcile(self):
        """Make the pods of new jobs, and write the status of those whose pods have ended."""
        for place, job in self.jobs():
            with suppress(ApiException):
                self._reconcile(place, job)

    def _reconcile(self, place, job):
        if self.paused or job["metadata"].get("deletionTimestamp"):
            return
        name = job["metadata"]["name"]
        pods = self.core.list_namespaced_pod("default", label_selector=f"job={name}").items
        if not pods:
            self._make_pods(place, job)
            return
        phases = [pod.status.phase for pod in pods]
        if "Failed" in phases:
            self._set_status(place, name, "Failed", "a pod has failed")
            for pod in pods:
                if pod.status.phase == "Running":
                    self.core.delete_namespaced_pod(pod.metadata.name, "default", grace_period_seconds=2)
        elif set(phases) == {"Succeeded"}:
            self._set_status(place, name, "Complete" if place == TRAIN_JOBS else "Succeeded", "all pods have ended")

    def _make_pods(self, place, job):
        # The job may have been deleted since it was listed, and with it the pods that it had.
        if job["metadata"]["uid"] in [each["metadata"]["uid"] for each in self.created]:
            return
        self.created.append(job)
        for pod in _train_pods(job) if place == TRAIN_JOBS else _pytorch_pods(job):
            self.core.create_namespaced_pod("default", pod)

    def _set_status(self, place, name, kind, message):
        condition = {"type": kind, "status": "True", "reason": f"Job{kind}", "message": message}
        body = {"status": {"conditions": [{**condition, "lastTransitionTime": _TIME}]}}
        self.custom.patch_namespaced_custom_object_status(*place, name, body)


def _train_pods(job):
    """Return the pods of a TrainJob, as the runtime `torch-distributed` makes them."""
    trainer, patches = job["spec"]["trainer"], job["spec"].get("runtimePatches", [])
    container = {"name": "node", **{key: trainer[key] for key in ("image", "command", "args", "env") if key in trainer}}
    container["resources"] = trainer.get("resourcesPerNode", {})
    spec = {}
    for patch in patches:
        for replicated in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
            pod = dict(replicated["template"]["spec"]["template"]["spec"])
            for each in pod.pop("containers", ()):
                container |= {key: value for key, value in each.items() if key != "name"}
            spec |= pod
    nodes, processes, port = trainer["numNodes"], trainer["numProcPerNode"], free_port()
    for rank in range(nodes):
        labels = {
            "jobset.sigs.k8s.io/jobset-name": job["metadata"]["name"],
            "batch.kubernetes.io/job-completion-index": str(rank),
        }
        yield _pod(job, f"node-0-{rank}", labels, spec, container, _launch(rank, nodes, processes, port))


def _pytorch_pods(job):
    """Return the pods of a PyTorchJob: the master, and the workers."""
    replicas, port = job["spec"]["pytorchReplicaSpecs"], free_port()
    nodes = sum(each["replicas"] for each in replicas.values())
    for rank in range(nodes):
        kind = "Worker" if rank else "Master"
        spec = dict(replicas[kind]["template"]["spec"])
        (container,) = spec.pop("containers")
        labels = {
            "training.kubeflow.org/job-name": job["metadata"]["name"],
            "training.kubeflow.org/replica-type": kind.lower(),
        }
        launch = _launch(rank, nodes, job["spec"]["nprocPerNode"], port)
        # The operator names the rank of the pod so, beside what the launcher reads.
        launch |= {"RANK": str(rank), "WORLD_SIZE": str(nodes)}
        yield _pod(job, f"{kind.lower()}-{rank}", labels, spec, container, launch)


def _launch(rank, nodes, processes, port):
    """Return the variables from which torch's launcher has its options."""
    return {
        "PET_NNODES": str(nodes),
        "PET_NPROC_PER_NODE": str(processes),
        "PET_NODE_RANK": str(rank),
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": str(port),
    }


def _pod(job, end, labels, spec, container, launch):
    name = job["metadata"]["name"]
    owner = {key: job[key] for key in ("apiVersion", "kind")} | {key: job["metadata"][key] for key in ("name", "uid")}
    env = [*container.get("env", ()), *({"name": key, "value": value} for key, value in launch.items())]
    return {
        "metadata": {
            "name": f"{name}-{end}",
            "labels": {**labels, "job": name},
            "ownerReferences": [{**owner, "blockOwnerDeletion": True}],
        },
        "spec": {**spec, "restartPolicy": "Never", "containers": [{**container, "env": env}]},
    }


@contextmanager
def training_operator(cluster):
    """Run the controllers in a cluster until the block ends."""
    ended = threading.Event()
    with cluster.client() as client:
        operator = TrainingOperator(CustomObjectsApi(client), CoreV1Api(client))

        def work():
            while not ended.wait(0.05):
                operator.reconcile()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield operator
        finally:
            ended.set()
            thread.join()
