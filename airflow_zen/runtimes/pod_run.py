"""The run of a step in a pod: find or start the pod, follow its log, and read its answer."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from airflow.providers.cncf.kubernetes.secret import Secret
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager
from airflow.providers.common.compat.sdk import AirflowException
from kubernetes.client import V1ResourceRequirements
from kubernetes.client.rest import ApiException
from urllib3.exceptions import HTTPError

from airflow_zen.errors import RuntimeUnavailable, StepDeferred
from airflow_zen.runtimes.base import OutputStream, describe_exit, read_answer
from airflow_zen.runtimes.kubernetes import CONTAINER
from airflow_zen.runtimes.kubernetes_cluster import (
    SPEC_ANNOTATION,
    ClusterRun,
    connect,
    give_credentials,
    may_defer,
    refusals,
    step_metadata,
)
from airflow_zen.runtimes.pod_log import BEGIN, Position, lines_after, seconds_since
from airflow_zen.runtimes.spec_and_answer import TASK_LABEL, delete_objects, task_label
from airflow_zen.runtimes.triggers import StepPodTrigger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_zen.runs.step_run import StepRunId
    from airflow_zen.runtimes.kubernetes import Kubernetes
    from airflow_zen.steps.runtime import Execution, StepResult
    from airflow_zen.transports.base import Transport

log = logging.getLogger("airflow_zen.runtimes")

# Airflow sends SIGKILL 5 seconds after SIGTERM.
_SECONDS_TO_STOP = 3
_POLL = 0.5
_ENDED = ("Succeeded", "Failed")
_START_ERRORS = ("StartError", "ContainerCannotRun")


class PodRun(ClusterRun):
    """The run of a step in a pod."""

    NOUN = "pod"

    def __init__(self, runtime: Kubernetes, execution: Execution) -> None:
        self._client, self._namespace = connect(runtime)
        self._manager: Any = PodManager(self._client)
        super().__init__(runtime, execution)

    def result(self) -> StepResult:
        """Wait for the step's pod, start it if there is none, and return the result of the step."""
        with refusals(self._runtime, "pod", self._name):
            stream = OutputStream()
            pod = (
                self._find_or_start()
                if self._event is None
                else self._client.read_namespaced_pod(self._name, self._namespace)
            )
            with self._stopped_on_error(pod, stream):
                self._defer_or_check(pod)
                self._await_start(pod)
                self._follow_log(pod, stream)
                ended = self._await_end(pod)
            answer = self._stored.answer()
            self._clean_up(ended, succeeded=answer is not None and not answer.get("error"))
        if answer is None:
            raise self._without_answer(ended, stream)
        return read_answer(json.dumps(answer), self._execution, self._runtime)

    def _of_task(self) -> Iterator[tuple[str, Any]]:
        for pod in _pods_of_task(self._client, self._namespace, self._stored.task):
            yield pod.metadata.name, pod

    def _is_usable(self, found: Any) -> bool:
        metadata = found.metadata
        if metadata.annotations.get(SPEC_ANNOTATION) != self._stored.fingerprint or metadata.deletion_timestamp:
            return False
        if found.status.phase in ("Pending", "Running"):
            return True
        return self._stored.has_result()

    def _start(self) -> Any:
        self._stored.write()
        pod = self._manager.run_pod_async(PodGenerator.deserialize_model_dict(self._body()))
        log.info("Running in pod %s/%s of image %s", self._namespace, self._name, self._runtime.image)
        return pod

    def _body(self) -> dict[str, Any]:
        """Return the pod with the user's overrides, and with the labels by which it is found."""
        secret = f"{self._name}-{secrets.token_hex(4)}" if self._credentials else ""
        body = self._client.api_client.sanitize_for_serialization(self._overridden_pod(secret))
        metadata = step_metadata(body["metadata"], self._stored, self._execution.run.id, secret)
        body["metadata"] = {**metadata, "namespace": self._namespace}
        return dict(body)

    def _overridden_pod(self, secret: str) -> Any:
        runtime = self._runtime
        try_number = self._execution.run.id.try_number
        body = runtime.pod(self._stored.address, self._variables, secret, try_number)
        pod = PodGenerator.deserialize_model_dict(body)
        for each in runtime.secrets:
            if not isinstance(each, str):
                secret_of_user: Any = Secret(**{"deploy_target": None, **each})  # type: ignore[no-untyped-call]
                pod = secret_of_user.attach_to_pod(pod)
        if runtime.pod_override:
            pod = PodGenerator.reconcile_pods(pod, PodGenerator.deserialize_model_dict(runtime.pod_override))
            pod.spec.containers[0].name = CONTAINER
        return pod

    def _defer_or_check(self, pod: Any) -> None:
        """Defer to a trigger after the start of a pod; raise the error of a trigger that timed out."""
        if self._event is None:
            owner = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": self._client.api_client.sanitize_for_serialization(pod.metadata),
            }
            give_credentials(self._client, self._namespace, owner, self._credentials, self._stored.task)
            if may_defer(self._runtime, self._execution) and pod.status.phase not in _ENDED:
                raise StepDeferred(self._trigger())
        elif self._event["status"] == "timeout":
            raise RuntimeUnavailable(f"{self._runtime!r}: {self._event['message']} {self._reasons(pod)}".strip())

    def _trigger(self) -> StepPodTrigger:
        timeout, deadline = self._runtime.startup_timeout, self._execution.run_hooks.deadline
        return StepPodTrigger(
            pod_name=self._name,
            pod_namespace=self._namespace,
            trigger_start_time=datetime.now(UTC),
            base_container_name=CONTAINER,
            kubernetes_conn_id=self._runtime.kubernetes_conn_id,
            startup_timeout=timeout,
            schedule_timeout=timeout,
            on_finish_action=self._runtime.on_finish_action,
            trigger_kwargs={} if deadline is None else {"_execution_deadline": deadline},
        )

    def _await_start(self, pod: Any) -> None:
        timeout = self._runtime.startup_timeout
        try:
            asyncio.run(self._manager.await_pod_start(pod, timeout, timeout, check_interval=_POLL))
        except AirflowException as error:
            raise RuntimeUnavailable(
                f"{self._runtime!r} did not start its pod: {error} {self._reasons(pod)}"
            ) from error

    def _reasons(self, pod: Any) -> str:
        """Return the cluster's messages about a pod that does not start."""
        status = self._manager.read_pod(pod).status
        waiting = [each.state.waiting for each in status.container_statuses or () if each.state.waiting]
        found = [f"{each.reason}: {each.message}" for each in (*waiting, *(status.conditions or ())) if each.message]
        return " ".join(found)

    def _follow_log(self, pod: Any, stream: OutputStream) -> None:
        """Pass on each line of the log once, until the container has ended; reconnect after lost connections."""
        while True:
            try:
                self._pass_on(self._log_lines(pod, self._position), stream)
            except HTTPError as error:
                log.debug("The log of pod %s was interrupted: %s", self._name, error)
            except ApiException as error:
                # A container that could not be started has no log.
                if error.status != 400:
                    raise
            if not self._manager.container_is_running(pod, CONTAINER):
                return
            time.sleep(_POLL)

    def _log_lines(self, pod: Any, after: Position) -> Iterator[tuple[Position, str]]:
        more = {"since_seconds": seconds_since(after)} if after != BEGIN else {}
        lines = self._manager.read_pod_logs(pod, CONTAINER, timestamps=True, follow=True, **more)
        return lines_after((data.decode(errors="replace") for data in lines), after)

    def _await_end(self, pod: Any) -> Any:
        while (ended := self._manager.read_pod(pod)).status.phase not in _ENDED:
            if _terminated(ended) is not None:
                return ended
            time.sleep(_POLL)
        return ended

    def _without_answer(self, pod: Any, stream: OutputStream) -> RuntimeUnavailable:
        terminated = _terminated(pod)
        if terminated is None:
            why = f"{pod.status.reason or pod.status.phase}: {pod.status.message or 'its container did not run'}"
            return RuntimeUnavailable(f"{self._runtime!r} lost its pod {self._name}: {why}")
        if terminated.reason in _START_ERRORS:
            return RuntimeUnavailable(
                f"{self._runtime!r} cannot start {self._runtime.python!r}: {terminated.message}. The image needs Python "
                "3.11 or later with airflow-provider-zen. Name another interpreter with python=."
            )
        limit = ((pod.spec.containers[0].resources or V1ResourceRequirements()).limits or {}).get("memory")
        memory = f"out of memory, limit {limit}" if limit else "out of memory"
        out_of_memory = memory if terminated.reason == "OOMKilled" else ""
        return describe_exit(terminated.exit_code, stream.tail, self._runtime, out_of_memory=out_of_memory)

    def _delete(self, found: Any) -> None:
        self._manager.delete_pod(found)

    def _stop(self, found: Any, stream: OutputStream) -> None:
        self._client.delete_namespaced_pod(self._name, self._namespace, grace_period_seconds=_SECONDS_TO_STOP)
        self._follow_log(found, stream)

    def _delete_and_wait(self, found: Any) -> None:
        pod = found.metadata
        self._manager.delete_pod(found)
        with suppress(ApiException):
            while self._client.read_namespaced_pod(pod.name, self._namespace).metadata.uid == pod.uid:
                time.sleep(_POLL)

    @staticmethod
    def delete_all(runtime: Kubernetes, run: StepRunId, transport: Transport) -> None:
        """Delete the pods of a task instance, and their objects; a pod that has ended may be kept."""
        client, namespace = connect(runtime)
        for pod in _pods_of_task(client, namespace, task_label(run)):
            if runtime.on_finish_action == "delete_pod" or pod.status.phase not in _ENDED:
                PodManager(client).delete_pod(pod)
            delete_objects(transport, pod.metadata.name)


def _pods_of_task(client: Any, namespace: str, task: str) -> Iterable[Any]:
    found: Iterable[Any] = client.list_namespaced_pod(namespace, label_selector=f"{TASK_LABEL}={task}").items
    return found


def _terminated(pod: Any) -> Any:
    """Return the termination state of the step's container; None while it runs."""
    for status in pod.status.container_statuses or ():
        if status.name == CONTAINER:
            return status.state.terminated
    return None
