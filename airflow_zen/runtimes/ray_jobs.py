"""The run of a step on a Ray cluster: a job by the dashboard's interface, or an actor."""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import ray
from ray.exceptions import OutOfMemoryError, RayError

import airflow_zen
from airflow_zen.errors import RuntimeUnavailable
from airflow_zen.lineage.recorder import temporary_environment
from airflow_zen.runtimes.base import OutputStream, describe_exit, make_spec, read_answer, step_environment
from airflow_zen.runtimes.memory_limits import memory_bytes, memory_of_try
from airflow_zen.runtimes.ray_actor_process import StepProcess
from airflow_zen.runtimes.spec_and_answer import TASK_LABEL, StoredSpec

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

    from airflow_zen.runtimes.ray import Ray
    from airflow_zen.steps.runtime import Execution, StepResult

log = logging.getLogger("airflow_zen.runtimes")

# In seconds.
_POLL = 0.5
_REPORT_INTERVAL = 30.0
_SECONDS_FOR_LOG = 30.0
# Airflow sends SIGKILL 5 seconds after SIGTERM.
_SECONDS_TO_STOP = 4.0
_ENTRYPOINT = "-P -m airflow_zen.runner"


def run_on_cluster(runtime: Ray, execution: Execution) -> StepResult:
    """Run a step as a job where the dashboard of the cluster answers, and otherwise in an actor.

    Raises the function's error, or `RuntimeUnavailable`.
    """
    client = _connect_to_dashboard(runtime)
    return ActorRun(runtime, execution).result() if client is None else JobRun(runtime, execution, client).result()


class JobRun:
    """The run of a step in a job, which the next try of the task finds by its name."""

    def __init__(self, runtime: Ray, execution: Execution, client: JobSubmissionClient) -> None:
        self._runtime, self._execution, self._client = runtime, execution, client
        self._stored = StoredSpec(runtime, execution)
        self._name = self._stored.name

    def result(self) -> StepResult:
        """Wait for the step's job, submit it if there is none, and return the result of the step."""
        stream = OutputStream()
        with self._refusals():
            self._find_or_submit()
            with self._stopped_on_error():
                info = asyncio.run(self._follow(stream))
            answer = self._stored.answer()
            self._delete(self._name)
        if answer is None:
            raise self._without_answer(info, stream)
        return read_answer(json.dumps(answer), self._execution, self._runtime)

    def _find_or_submit(self) -> None:
        for job in self._client.list_jobs():
            if (job.metadata or {}).get(TASK_LABEL) != self._stored.task or not job.submission_id:
                continue
            if job.submission_id == self._name and self._is_usable(job):
                log.info("Found job %s, which was submitted before", self._name)
                if job.status == "PENDING":
                    # A try that gave it up has deleted its spec.
                    self._stored.write()
                return
            log.info("Deleting job %s of an earlier try", job.submission_id)
            self._stop(job.submission_id)
            self._delete(job.submission_id)
        self._submit()

    def _is_usable(self, job: Any) -> bool:
        return not job.status.is_terminal() or self._stored.has_result()

    def _submit(self) -> None:
        public, credentials = self._stored.variables()
        runtime, run = self._runtime, self._execution.run.id
        limit = memory_of_try(tuple(runtime.memory), run.try_number)
        self._stored.write()
        self._client.submit_job(
            submission_id=self._name,
            entrypoint=f"{shlex.quote(runtime.python)} {_ENTRYPOINT} {shlex.quote(self._stored.address)}",
            runtime_env=_runtime_env(runtime, {**public, **credentials}),
            metadata={TASK_LABEL: self._stored.task, "airflow-zen/step-run": str(run)},
            entrypoint_num_cpus=runtime.num_cpus or None,
            entrypoint_num_gpus=runtime.num_gpus or None,
            entrypoint_memory=memory_bytes(limit) if limit else None,
            entrypoint_resources=dict(runtime.resources) or None,
        )
        log.info("Running in job %s of the Ray cluster %s", self._name, runtime.address)

    async def _follow(self, stream: OutputStream) -> Any:
        """Pass on the log until the job has ended, and return its description; raise for one that does not start."""
        pump, waiting = asyncio.create_task(self._pass_on_log(stream)), _Waiting(self._runtime)
        while not (info := self._client.get_job_info(self._name)).status.is_terminal():
            if info.status == "PENDING":
                waiting.check(info.message or "")
            await asyncio.sleep(_POLL)
        await asyncio.wait([pump], timeout=_SECONDS_FOR_LOG)
        return info

    async def _pass_on_log(self, stream: OutputStream) -> None:
        """Pass on each line once; after a lost connection the log comes from its beginning."""
        passed = 0
        while True:
            try:
                lines, rest = 0, ""
                async for text in self._client.tail_job_logs(self._name):
                    *whole, rest = (rest + text).split("\n")
                    for line in whole:
                        lines += 1
                        if lines > passed:
                            passed = lines
                            stream.write(line)
            except (OSError, RuntimeError) as error:
                log.debug("The log of job %s was interrupted: %s", self._name, error)
                await asyncio.sleep(_POLL)
                continue
            if rest:
                stream.write(rest)
            return

    @contextmanager
    def _stopped_on_error(self) -> Iterator[None]:
        """Stop the job if the step is interrupted in the block; its function has time to clean up."""
        try:
            yield
        except BaseException:
            with suppress(RuntimeError, OSError):
                self._stop(self._name)
                self._delete(self._name)
            raise

    def _stop(self, name: str) -> None:
        self._client.stop_job(name)
        deadline = time.monotonic() + _SECONDS_TO_STOP
        while not self._client.get_job_status(name).is_terminal() and time.monotonic() < deadline:
            time.sleep(_POLL)

    def _delete(self, name: str) -> None:
        """Delete an ended job from the cluster's list, and what it has in the artifact root.

        Ray stops no job that waits for its start; without its spec it ends at once.
        """
        with suppress(RuntimeError):
            self._client.delete_job(name)
        self._stored.delete(name)

    def _without_answer(self, info: Any, stream: OutputStream) -> RuntimeUnavailable:
        message = info.message or ""
        if "OutOfMemory" in message or "out of memory" in message.lower():
            return describe_exit(info.driver_exit_code or 0, stream.tail, self._runtime, out_of_memory="out of memory")
        if info.driver_exit_code is not None:
            return describe_exit(info.driver_exit_code, stream.tail, self._runtime)
        return RuntimeUnavailable(f"{self._runtime!r} ended job {self._name} as {info.status}: {message}")

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Translate errors of the dashboard's interface into `RuntimeUnavailable`."""
        try:
            yield
        except RuntimeUnavailable:
            raise
        except (RuntimeError, OSError) as error:
            reason = (str(error).strip(". \n") or type(error).__name__).splitlines()[-1]
            raise RuntimeUnavailable(f"{self._runtime!r} lost its cluster, or was refused by it: {reason}") from error


class ActorRun:
    """The run of a step in the process of an actor, which ends with this process."""

    def __init__(self, runtime: Ray, execution: Execution) -> None:
        self._runtime, self._execution = runtime, execution

    def result(self) -> StepResult:
        """Start the actor, wait for the end of its process, and return the result of the step."""
        spec = msgspec.json.encode(make_spec(self._execution, root=self._runtime.artifact_root)).decode()
        found = step_environment(self._execution.stack, self._execution.opened(), reaches_relay=False)
        stream = OutputStream()
        with _connected(self._runtime, _runtime_env(self._runtime, found)), self._refusals():
            actor = self._start(spec)
            try:
                code = self._follow(actor, stream)
            except BaseException:
                with suppress(RayError):
                    ray.get(actor.stop.remote(), timeout=_SECONDS_TO_STOP)
                raise
            finally:
                ray.kill(actor)
        if not stream.answer:
            raise describe_exit(code, stream.tail, self._runtime)
        return read_answer(stream.answer, self._execution, self._runtime)

    def _start(self, spec: str) -> Any:
        runtime = self._runtime
        limit = memory_of_try(tuple(runtime.memory), self._execution.run.id.try_number)
        options: dict[str, Any] = {"num_cpus": runtime.num_cpus, "num_gpus": runtime.num_gpus}
        options |= {"resources": dict(runtime.resources), "memory": memory_bytes(limit) if limit else None}
        # `read` waits, and `stop` must not wait for it.
        cls: Any = ray.remote(max_concurrency=2, **options)(StepProcess)
        context = ray.get_runtime_context()
        job = {"address": context.gcs_address, "runtime_env": dict(context.runtime_env)}
        log.info("Running in an actor of the Ray cluster %s", runtime.address)
        return cls.remote([runtime.python, *_ENTRYPOINT.split(), "-"], spec, job)

    def _follow(self, actor: Any, stream: OutputStream) -> int:
        waiting, has_started = _Waiting(self._runtime), False
        while True:
            reading = actor.read.remote(_POLL)
            while not ray.wait([reading], timeout=_POLL)[0]:
                if not has_started:
                    waiting.check(f"The cluster has {ray.cluster_resources()}.")
            lines, code = ray.get(reading)
            has_started = True
            for line in lines:
                stream.write(line)
            if code is not None:
                return int(code)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OutOfMemoryError as error:
            raise describe_exit(0, str(error).splitlines(), self._runtime, out_of_memory="out of memory") from error
        except RayError as error:
            raise RuntimeUnavailable(f"{self._runtime!r} lost the actor of the step: {error}") from error


class _Waiting:
    """The wait for the start of a step: its reason is logged, and it ends after `startup_timeout`."""

    def __init__(self, runtime: Ray) -> None:
        self._runtime = runtime
        self._began = self._reported = time.monotonic()

    def check(self, reason: str) -> None:
        """Log the reason now and then. Raises `RuntimeUnavailable` after the timeout."""
        now = time.monotonic()
        if now - self._began > self._runtime.startup_timeout:
            runtime = self._runtime
            asked = {"num_cpus": runtime.num_cpus, "num_gpus": runtime.num_gpus, **runtime.resources}
            raise RuntimeUnavailable(
                f"{runtime!r} did not start the step within {runtime.startup_timeout} seconds. Does a node of the cluster "
                f"have what it reserves, {asked}? {reason}"
            )
        if now - self._reported > _REPORT_INTERVAL:
            self._reported = now
            log.info("Waiting for the Ray cluster %s: %s", self._runtime.address, reason)


def _connect_to_dashboard(runtime: Ray) -> JobSubmissionClient | None:
    """Return a client of the dashboard; None where a cluster that `ray.init` can reach has none that answers."""
    from ray.job_submission import JobSubmissionClient

    try:
        # The variable would take precedence over the address.
        with temporary_environment({"RAY_ADDRESS": "", "RAY_API_SERVER_ADDRESS": ""}), _keeps_signals():
            return JobSubmissionClient(runtime.address)
    except (RuntimeError, OSError, ValueError) as error:
        if runtime.address.startswith(("http://", "https://")):
            raise RuntimeUnavailable(
                f"{runtime!r} gets no answer from the dashboard of the cluster: {error}. Check the address, and that this "
                "worker reaches it."
            ) from error
        log.info("No dashboard of the Ray cluster %s answers: %s", runtime.address, error)
        return None


@contextmanager
def _connected(runtime: Ray, runtime_env: dict[str, Any]) -> Iterator[None]:
    """Connect this process to the cluster for the block."""
    try:
        with _keeps_signals():
            ray.init(runtime.address, runtime_env=runtime_env, log_to_driver=False, configure_logging=False)
    except (RuntimeError, OSError, ValueError) as error:
        raise RuntimeUnavailable(
            f"{runtime!r} cannot be reached: {error}. From a worker that is no node of the cluster, use the address of its "
            "dashboard, http://HOST:8265, or of its client server, ray://HOST:10001."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _keeps_signals() -> Iterator[None]:
    """Restore the signal handler of the task after the block: Ray sets its own, which exits."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with suppress(ValueError):
            signal.signal(signal.SIGTERM, before)


def _runtime_env(runtime: Ray, variables: dict[str, str]) -> dict[str, Any]:
    """Return the runtime environment: the user's, with this package and the variables of the step."""
    given = dict(runtime.runtime_env)
    set_variables = {name: value for name, value in variables.items() if value}
    return {
        **given,
        "py_modules": [*given.get("py_modules", ()), str(Path(airflow_zen.__file__).parent)],
        "env_vars": {**set_variables, **given.get("env_vars", {}), **runtime.environment},
    }
