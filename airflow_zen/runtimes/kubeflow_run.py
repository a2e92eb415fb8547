"""The run of a step in a training job: find or create the job, follow the log of its first pod, and read its answer."""

from __future__ import annotations

import json
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any

from kubernetes.client.rest import ApiException
from urllib3.exceptions import HTTPError

from airflow_zen.errors import RuntimeUnavailable, StepDeferred
from airflow_zen.runtimes.base import OutputStream, read_answer
from airflow_zen.runtimes.kubeflow_jobs import Jobs, job_state
from airflow_zen.runtimes.kubernetes_cluster import (
    SPEC_ANNOTATION,
    ClusterRun,
    give_credentials,
    may_defer,
    refusals,
    step_metadata,
)
from airflow_zen.runtimes.memory_limits import memory_of_try
from airflow_zen.runtimes.spec_and_answer import delete_objects, task_label
from airflow_zen.runtimes.triggers import TrainingJobTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_zen.runs.step_run import StepRunId
    from airflow_zen.runtimes.kubeflow import TrainingJob
    from airflow_zen.steps.runtime import Execution, StepResult
    from airflow_zen.transports.base import Transport

log = logging.getLogger("airflow_zen.runtimes")

_POLL = 0.5
# Airflow sends SIGKILL 5 seconds after SIGTERM.
_SECONDS_TO_STOP = 4.0


class TrainingRun(ClusterRun):
    """The run of a step in a training job."""

    NOUN = "job"

    def __init__(self, runtime: TrainingJob, execution: Execution) -> None:
        self._jobs = Jobs(runtime)
        super().__init__(runtime, execution)

    def result(self) -> StepResult:
        """Wait for the step's job, create it if there is none, and return the result of the step."""
        stream = OutputStream()
        with refusals(self._runtime, "job", self._name):
            job = self._find_or_start() if self._event is None else self._jobs.get(self._name)
            with self._stopped_on_error(job, stream):
                self._defer_or_check(job)
                state = self._follow(stream)
            answer = self._stored.answer()
            if state == "failed" and self._stored.has_result():
                # Another rank has failed after the first one had answered.
                answer = None
            for usage in self._stored.rank_usages():
                self._execution.collector.add_all(usage)
            reason = "" if answer else self._jobs.describe(self._name)
            self._clean_up(job, succeeded=answer is not None and not answer.get("error"))
        if answer is None:
            raise self._without_answer(reason, stream)
        return read_answer(json.dumps(answer), self._execution, self._runtime)

    def _of_task(self) -> Iterator[tuple[str, Any]]:
        for job in self._jobs.of_task(self._stored.task):
            yield job["metadata"]["name"], job

    def _is_usable(self, found: Any) -> bool:
        metadata = found["metadata"]
        if metadata["annotations"].get(SPEC_ANNOTATION) != self._stored.fingerprint:
            return False
        is_running = not job_state(self._runtime.kind(), found) and not metadata.get("deletionTimestamp")
        return is_running or self._stored.has_result()

    def _start(self) -> dict[str, Any]:
        self._stored.write()
        run = self._execution.run.id
        secret = f"{self._name}-{secrets.token_hex(4)}" if self._credentials else ""
        names = {variable: f"{secret}/{variable}" for variable in self._credentials}
        body = self._runtime.manifest(self._name, self._stored.address, self._variables, names, run.try_number)
        body["metadata"] = step_metadata(body["metadata"], self._stored, run, secret)
        job = self._jobs.create(body)
        log.info("Running in %s %s/%s", job["kind"], self._jobs.namespace, self._name)
        return job

    def _defer_or_check(self, job: dict[str, Any]) -> None:
        """Defer to a trigger after the creation of a job; raise the error of a trigger that timed out."""
        if self._event is None:
            give_credentials(self._jobs.core, self._jobs.namespace, job, self._credentials, self._stored.task)
            if may_defer(self._runtime, self._execution) and not job_state(self._runtime.kind(), job):
                raise StepDeferred(self._trigger())
        elif self._event["status"] == "timeout":
            raise self._not_started()
        elif self._event["status"] == "deadline":
            raise RuntimeUnavailable(f"{self._runtime!r} did not end job {self._name} before the timeout of its task.")

    def _trigger(self) -> TrainingJobTrigger:
        return TrainingJobTrigger(
            runtime=repr(self._runtime),
            namespace=self._jobs.namespace,
            name=self._name,
            started=time.time(),
            deadline=self._execution.run_hooks.deadline,
        )

    def _follow(self, stream: OutputStream) -> str:
        """Pass on the log of the first pod until the job has ended, and return its state."""
        began, has_started = time.monotonic(), self._event is not None
        while True:
            # Read before the log, which is then complete for a job that has ended.
            state = job_state(self._runtime.kind(), self._jobs.get(self._name))
            for pod in self._jobs.pods(self._name, first=True):
                if pod.status.phase != "Pending":
                    has_started = True
                    self._pass_on_log(pod, stream)
            if state:
                return state
            if not has_started and time.monotonic() - began > self._runtime.startup_timeout:
                raise self._not_started()
            time.sleep(_POLL)

    def _pass_on_log(self, pod: Any, stream: OutputStream) -> None:
        """Pass on the rest of the log, while the container runs."""
        try:
            self._pass_on(self._jobs.log_lines(pod, self._position), stream)
        except (ApiException, HTTPError) as error:
            log.debug("The log of pod %s was interrupted: %s", pod.metadata.name, error)

    def _not_started(self) -> RuntimeUnavailable:
        runtime, reasons = self._runtime, self._jobs.describe(self._name)
        return RuntimeUnavailable(
            f"{runtime!r} did not start the first pod of job {self._name} within {runtime.startup_timeout} seconds. "
            f"{reasons or 'Does the controller of these jobs run in the cluster?'}"
        )

    def _without_answer(self, reason: str, stream: OutputStream) -> RuntimeUnavailable:
        limit = memory_of_try(tuple(self._runtime.memory), self._execution.run.id.try_number)
        memory = f"out of memory{f', limit {limit}' if limit else ''}. " if "OOMKilled" in reason else ""
        error = RuntimeUnavailable(
            f"{self._runtime!r} ended job {self._name} without a result. {memory}{reason}".strip()
        )
        if stream.tail:
            error.add_note("Its last lines:\n" + "\n".join(stream.tail))
        return error

    def _delete(self, found: Any) -> None:
        self._jobs.delete(found["metadata"]["name"])

    def _delete_and_wait(self, found: Any) -> None:
        self._jobs.delete_and_wait(found["metadata"]["name"])

    def _stop(self, found: Any, stream: OutputStream) -> None:
        self._jobs.delete_and_wait(self._name, _SECONDS_TO_STOP)

    @staticmethod
    def delete_all(runtime: TrainingJob, run: StepRunId, transport: Transport) -> None:
        """Delete the jobs of a task instance, and their objects; a job that has ended may be kept."""
        jobs = Jobs(runtime)
        for job in jobs.of_task(task_label(run)):
            name = job["metadata"]["name"]
            if runtime.on_finish_action == "delete_job" or not job_state(runtime.kind(), job):
                jobs.delete(name)
            delete_objects(transport, name)
