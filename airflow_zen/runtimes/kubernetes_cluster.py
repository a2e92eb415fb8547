"""What runs in a cluster have in common: an object there that the next try finds again, its log, and its end."""

from __future__ import annotations

import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value
from airflow.providers.common.compat.sdk import AirflowException, conf
from kubernetes.client.rest import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from airflow_zen.errors import RuntimeUnavailable, StepDeferred, ZenError
from airflow_zen.runtimes.base import OutputStream
from airflow_zen.runtimes.pod_log import BEGIN, Position
from airflow_zen.runtimes.spec_and_answer import TASK_LABEL, StoredSpec

if TYPE_CHECKING:
    from airflow_zen.runs.step_run import StepRunId
    from airflow_zen.steps.runtime import Execution, StepResult

SPEC_ANNOTATION, SECRET_ANNOTATION = "airflow-zen/spec", "airflow-zen/secret"
"""The annotations with the fingerprint of the spec, and with the name of the secret that has its credentials."""

CONFLICT, NOT_FOUND = 409, 404

log = logging.getLogger("airflow_zen.runtimes")

_POLL = 0.5


class ClusterRun(ABC):
    """The run of a step in an object of the cluster: a pod, or a training job.

    The objects of a task instance have its label. The object's name is made from the task instance and the spec, so that
    the cluster rejects a second object for the same spec.
    """

    NOUN: ClassVar[str]
    """What the object is called, in messages and in `on_finish_action`."""

    def __init__(self, runtime: Any, execution: Execution) -> None:
        self._runtime, self._execution = runtime, execution
        self._event = execution.run_hooks.event
        self._stored = StoredSpec(runtime, execution, "" if self._event is None else str(self._event["name"]))
        self._name = self._stored.name
        self._variables, self._credentials = self._stored.variables()
        # Up to here a trigger has passed on the log.
        self._position: Position = BEGIN if self._event is None else tuple(self._event.get("log_position", BEGIN))

    @abstractmethod
    def result(self) -> StepResult:
        """Wait for the step's object, start it if there is none, and return the result of the step.

        Raises `StepDeferred` with the trigger that waits for the object, if the runtime is deferrable.
        """

    def _find_or_start(self) -> Any:
        """Return the running or succeeded object of this spec, or start it; delete others of the task instance."""
        while True:
            for name, found in self._of_task():
                if self._is_usable(found):
                    log.info("Found %s %s, which was started before", self.NOUN, name)
                    return found
                log.info("Deleting %s %s of an earlier try", self.NOUN, name)
                self._delete_and_wait(found)
                self._stored.delete(name)
            try:
                return self._start()
            except ApiException as error:
                if error.status != CONFLICT:
                    self._stored.delete()
                    raise
            time.sleep(_POLL)

    @abstractmethod
    def _of_task(self) -> Iterable[tuple[str, Any]]:
        """Yield the objects of the task instance by name."""

    @abstractmethod
    def _is_usable(self, found: Any) -> bool:
        """Whether an object runs this spec, or has run it with a result."""

    @abstractmethod
    def _start(self) -> Any:
        """Store the spec, and create the object."""

    @abstractmethod
    def _delete(self, found: Any) -> None:
        """Delete the object."""

    @abstractmethod
    def _delete_and_wait(self, found: Any) -> None:
        """Delete an object, and wait until it is gone."""

    @abstractmethod
    def _stop(self, found: Any, stream: OutputStream) -> None:
        """Delete the object of an interrupted step, whose function has some seconds to clean up."""

    def _pass_on(self, lines: Iterable[tuple[Position, str]], stream: OutputStream) -> None:
        """Write lines of the log, with their positions, to a stream."""
        for entry in lines:
            self._position, line = entry
            for part in line.replace("\r", "\n").split("\n"):
                stream.write(part)

    @contextmanager
    def _stopped_on_error(self, found: Any, stream: OutputStream) -> Iterator[None]:
        """Stop the object if the step is interrupted in the block."""
        try:
            yield
        except StepDeferred:
            raise
        except BaseException:
            with suppress(ApiException, HTTPError, ZenError):
                self._stop(found, stream)
            with suppress(ZenError):
                self._stored.delete()
            raise

    def _clean_up(self, found: Any, *, succeeded: bool) -> None:
        action, noun = self._runtime.on_finish_action, self.NOUN
        if action == f"delete_{noun}" or (action == f"delete_succeeded_{noun}" and succeeded):
            self._delete(found)
        self._stored.delete()


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
