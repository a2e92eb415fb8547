"""The training jobs in a namespace, their pods, and what the cluster says of both."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager
from kubernetes.client import CustomObjectsApi
from kubernetes.client.rest import ApiException

from airflow_zen.errors import RuntimeUnavailable
from airflow_zen.runtimes.kubernetes_cluster import NOT_FOUND, connect
from airflow_zen.runtimes.pod_log import BEGIN, Position, lines_after, seconds_since
from airflow_zen.runtimes.spec_and_answer import TASK_LABEL

if TYPE_CHECKING:
    from airflow_zen.runtimes.kubeflow import JobKind, TrainingJob

_POLL = 0.5


class Jobs:
    """The jobs of the kind of a runtime in its namespace; `core` is the client for pods and secrets."""

    def __init__(self, runtime: TrainingJob) -> None:
        self._runtime, self._kind = runtime, runtime.kind()
        self.core, self.namespace = connect(runtime)
        self._custom: Any = CustomObjectsApi(self.core.api_client)
        self._place = (self._kind.group, self._kind.version, self.namespace, self._kind.plural)

    def get(self, name: str) -> dict[str, Any]:
        """Return a job."""
        return dict(self._custom.get_namespaced_custom_object(*self._place, name))

    def of_task(self, task: str) -> list[dict[str, Any]]:
        """Return the jobs of a task instance. Raises `RuntimeUnavailable` if the cluster has no such kind."""
        try:
            found = self._custom.list_namespaced_custom_object(*self._place, label_selector=f"{TASK_LABEL}={task}")
        except ApiException as error:
            if error.status != NOT_FOUND:
                raise
            kind = self._kind
            raise RuntimeUnavailable(
                f"{self._runtime!r} finds no {kind.plural}.{kind.group}/{kind.version} in the cluster: install Kubeflow's "
                "training operator there, or use the other kind of job."
            ) from error
        return list(found["items"])

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create a job; the cluster refuses unknown fields."""
        return dict(self._custom.create_namespaced_custom_object(*self._place, body, field_validation="Strict"))

    def delete(self, name: str) -> None:
        """Delete a job and its pods; one that does not exist is no error."""
        with _unless_missing():
            self._custom.delete_namespaced_custom_object(*self._place, name, propagation_policy="Foreground")

    def delete_and_wait(self, name: str, timeout: float = float("inf")) -> None:
        """Delete a job, and wait some seconds until it is gone."""
        self.delete(name)
        deadline = time.monotonic() + timeout
        with _unless_missing():
            while self.get(name) and time.monotonic() < deadline:
                time.sleep(_POLL)

    def pods(self, name: str, *, first: bool = False) -> list[Any]:
        """Return the pods of a job, or only that of its first node."""
        selector = self._kind.first_pod if first else self._kind.first_pod.partition(",")[0]
        return list(self.core.list_namespaced_pod(self.namespace, label_selector=selector.format(name=name)).items)

    def log_lines(self, pod: Any, after: Position) -> Iterator[tuple[Position, str]]:
        """Yield the lines of a pod's log after a position, while its container runs."""
        more: dict[str, Any] = {"since_seconds": seconds_since(after)} if after != BEGIN else {}
        manager: Any = PodManager(self.core)
        lines = manager.read_pod_logs(pod, self._kind.container, timestamps=True, follow=True, **more)
        return lines_after((data.decode(errors="replace") for data in lines), after)

    def describe(self, name: str) -> str:
        """Return what the cluster says of a job and its pods."""
        texts = [_text(each) for each in conditions(self.get(name)) if each.get("status") == "True"]
        for pod in self.pods(name):
            texts += [f"{pod.metadata.name}: {text}" for text in _pod_texts(pod)]
        return " ".join(filter(None, texts))


def conditions(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the conditions of a job's status."""
    return list(job.get("status", {}).get("conditions") or ())


def job_state(kind: JobKind, job: Mapping[str, Any]) -> str:
    """Return "success" or "failed" for a job that has ended, and "" before."""
    states = {kind.succeeded: "success", "Failed": "failed"}
    found = (states[each["type"]] for each in conditions(job) if each["type"] in states and each["status"] == "True")
    return next(found, "")


def _text(condition: Mapping[str, Any]) -> str:
    return ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))


def _pod_texts(pod: Any) -> Iterable[str]:
    for status in pod.status.container_statuses or ():
        for state in (status.state.waiting, status.state.terminated):
            if state is not None and state.reason not in (None, "Completed"):
                code = f" (exit code {state.exit_code})" if getattr(state, "exit_code", None) else ""
                yield f"{state.reason}{code}{f': {state.message}' if state.message else ''}"
    for each in pod.status.conditions or ():
        if each.message:
            yield f"{each.reason}: {each.message}"


@contextmanager
def _unless_missing() -> Iterator[None]:
    try:
        yield
    except ApiException as error:
        if error.status != NOT_FOUND:
            raise
