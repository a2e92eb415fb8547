"""What runs in pods have in common: the connection to the cluster, labels, credentials, and its refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value
from airflow.providers.common.compat.sdk import AirflowException, conf
from kubernetes.client.rest import ApiException
from kubernetes.config import ConfigException

from airflow_zen.errors import RuntimeUnavailable
from airflow_zen.runtimes.spec_and_answer import TASK_LABEL, StoredSpec

if TYPE_CHECKING:
    from airflow_zen.runs.step_run import StepRunId
    from airflow_zen.steps.runtime import Execution

SPEC_ANNOTATION, SECRET_ANNOTATION = "airflow-zen/spec", "airflow-zen/secret"
"""The annotations with the fingerprint of the spec, and with the name of the secret that has its credentials."""

CONFLICT, NOT_FOUND = 409, 404


def connect(runtime: Any) -> tuple[Any, str]:
    """Return a client of the cluster of a runtime, and the namespace of its pods. Raises `RuntimeUnavailable`."""
    hook = KubernetesHook(conn_id=runtime.kubernetes_conn_id)
    try:
        return hook.core_v1_client, runtime.namespace or hook.get_namespace() or "default"
    except (ConfigException, AirflowException) as error:
        raise RuntimeUnavailable(
            f"{runtime!r} finds no cluster: {error}. Set up the connection {runtime.kubernetes_conn_id!r}."
        ) from error


def step_metadata(given: Mapping[str, Any], stored: StoredSpec, run: StepRunId, secret: str) -> dict[str, Any]:
    """Return the metadata of what runs a step: the given ones, and those by which the next try finds it."""
    names = {"dag_id": run.dag_id, "task_id": run.task_id, "run_id": run.run_id, "try_number": str(run.try_number)}
    labels = {name: make_safe_label_value(value) for name, value in names.items()}
    annotations = {SPEC_ANNOTATION: stored.fingerprint, SECRET_ANNOTATION: secret, "airflow-zen/step-run": str(run)}
    return {
        **given,
        "name": stored.name,
        "labels": {**given.get("labels", {}), **labels, TASK_LABEL: stored.task},
        "annotations": {**given.get("annotations", {}), **annotations},
    }


def give_credentials(
    client: Any, namespace: str, owner: Mapping[str, Any], credentials: Mapping[str, str], task: str
) -> None:
    """Store the credentials in the secret that an object of the cluster waits for; it is deleted with the object."""
    metadata = owner["metadata"]
    if not (name := metadata["annotations"][SECRET_ANNOTATION]):
        return
    reference = {key: owner[key] for key in ("apiVersion", "kind")} | {key: metadata[key] for key in ("name", "uid")}
    described = {"name": name, "labels": {TASK_LABEL: task}, "ownerReferences": [reference]}
    try:
        client.create_namespaced_secret(namespace, {"metadata": described, "stringData": dict(credentials)})
    except ApiException as error:
        # The process that started the object was here.
        if error.status != CONFLICT:
            raise


def may_defer(runtime: Any, execution: Execution) -> bool:
    """Whether the task is to be deferred while the step runs."""
    chosen = runtime.deferrable
    if chosen is None:
        chosen = conf.getboolean("operators", "default_deferrable", fallback=False)
    return bool(chosen) and execution.run_hooks.can_defer


@contextmanager
def refusals(runtime: Any, kind: str, name: str) -> Iterator[None]:
    """Translate errors of the cluster's API about an object into `RuntimeUnavailable`."""
    try:
        yield
    except ApiException as error:
        with suppress(ValueError, TypeError):
            error.reason = json.loads(error.body)["message"]
        raise RuntimeUnavailable(
            f"{runtime!r} lost its {kind} {name}, which was deleted."
            if error.status == NOT_FOUND and name in str(error.reason)
            else f"{runtime!r} was refused by the cluster ({error.status}): {error.reason}."
        ) from error
