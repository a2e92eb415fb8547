"""The worker that finalizes ended DAG runs in a child process, one process at a time."""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from tempfile import TemporaryFile
from typing import IO, Any

import msgspec

from airflow_zen.runs.step_run import FinishedDagRun

log = logging.getLogger("airflow_zen.plugin")

# The child process prints lines with this prefix for Airflow's own log.
BACKFILL_PREFIX = "backfill "

# The exit code of the child process when lineage is still to be delivered.
EXIT_CODE_PENDING = 75

# With this argument the child process also searches for missed ends of DAG runs.
CATCH_UP_FLAG = "--catch-up"

_COMMAND = (sys.executable, "-m", "airflow_zen.plugin.finalize")
PROCESS_TIMEOUT = 900.0
_RETRY_DELAY, _MAX_RETRY_DELAY = 60.0, 600.0
_CATCH_UP_INTERVAL = 3600.0

# The most DAG runs of failed processes that are kept for the next one.
_MAX_REQUEUED = 10_000


class StoredConnection(msgspec.Struct, frozen=True):
    """The fields of an Airflow connection."""

    conn_id: str
    conn_type: str
    host: str | None = None
    login: str | None = None
    password: str | None = None
    schema: str | None = None
    port: int | None = None
    extra_dejson: Mapping[str, Any] = {}


class StackAccess(msgspec.Struct, frozen=True):
    """The data with which a child process opens a stack, including secrets; without an `artifact_root` it asks Airflow.

    server: the fields of `TrackingServer`.
    """

    name: str
    artifact_root: str = ""
    connection: StoredConnection | None = None
    server: Mapping[str, Any] | None = None
    lineage_trace: bool = True


class EndedDagRun(msgspec.Struct, frozen=True):
    """The end of a DAG run, and whether a backfill started it."""

    run: FinishedDagRun
    is_backfill: bool = False


class FinalizeRequest(msgspec.Struct, frozen=True):
    """The DAG runs that a child process finalizes, in which stacks, and whether a backfill started any of them."""

    runs: Sequence[FinishedDagRun] = ()
    stacks: Sequence[StackAccess] = ()
    is_backfill: bool = False


class DagRunWorker:
    """Collects ended DAG runs, and hands them to a child process.

    The clients of stores run threads that do not survive a fork, and schedulers fork; therefore no store is opened in
    this process. While MLflow is unavailable, or the child process fails, it is started again after a delay. The first
    child process, and then one every hour, also searches for missed ends. A child process outlives this one, so that a
    process that ends right after its DAG run, such as one that calls `dag.test()`, does not have to wait for the graph.
    """

    def __init__(
        self,
        command: Sequence[str] = _COMMAND,
        retry_delay: float = _RETRY_DELAY,
        find_stacks: Callable[[], Sequence[StackAccess]] | None = None,
    ) -> None:
        self._command = command
        self._retry_delay = retry_delay
        self._find_stacks = find_stacks or find_all_stacks
        self._pid = 0
        self._reset()

    def _reset(self) -> None:
        self._condition = threading.Condition()
        self._queue: list[EndedDagRun] = []
        self._starting: list[EndedDagRun] = []
        self._thread: threading.Thread | None = None
        self._idle, self._wake_requested, self._reconciled = True, False, False
        self._last_catch_up: float | None = None

    def enqueue(self, run: FinishedDagRun, is_backfill: bool = False) -> None:
        """Add an ended DAG run, which a backfill may have started; returns at once."""
        self._reset_after_fork()
        with self._condition:
            self._queue.append(EndedDagRun(run, is_backfill))
            self._wake_thread()

    @property
    def reconciled(self) -> bool:
        """Whether this process has started the delivery of earlier lineage."""
        return self._reconciled and self._pid == os.getpid()

    def reconcile(self) -> None:
        """Deliver once the lineage that earlier processes left; returns at once."""
        self._reset_after_fork()
        with self._condition:
            if not self._reconciled:
                self._wake_thread()

    def drain(self, timeout: float) -> bool:
        """Wait `timeout` seconds at most until there is no more work; return whether there is none."""
        if self._pid != os.getpid():
            return True
        with self._condition:
            return self._condition.wait_for(lambda: self._idle, timeout)

    def hand_over(self) -> None:
        """Give the DAG runs that no child process has yet to one that outlives this process; returns at once."""
        if self._pid != os.getpid():
            return
        with self._condition:
            runs, self._queue = [*self._starting, *self._queue], []
        if runs:
            with suppress(Exception), TemporaryFile() as output:
                self._start_process(self._command, runs, output, output)

    def _reset_after_fork(self) -> None:
        """Forget the thread and the lock of the parent process."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._reset()
            atexit.register(self.hand_over)

    def _wake_thread(self) -> None:
        self._reconciled, self._wake_requested, self._idle = True, True, False
        self._condition.notify_all()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work_loop, name="airflow-zen-worker", daemon=True)
            self._thread.start()

    def _work_loop(self) -> None:
        delay: float | None = None
        requeued: list[EndedDagRun] = []
        while True:
            with self._condition:
                self._idle = not self._wake_requested
                self._condition.notify_all()
                self._condition.wait_for(lambda: self._wake_requested, delay)
                runs, self._queue, self._wake_requested = [*requeued, *self._queue], [], False
                self._starting = runs
            code = self._run_process(runs)
            requeued = [] if code in {0, EXIT_CODE_PENDING} else runs[-_MAX_REQUEUED:]
            delay = next_retry_delay(code, delay, self._retry_delay)

    def _run_process(self, runs: Sequence[EndedDagRun]) -> int | None:
        """Run the child process, and return its exit code; None when it has none."""
        now = time.monotonic()
        catch_up = self._last_catch_up is None or now - self._last_catch_up >= _CATCH_UP_INTERVAL
        command = [*self._command, *([CATCH_UP_FLAG] if catch_up else [])]
        with TemporaryFile() as stdout, TemporaryFile() as stderr:
            try:
                process = self._start_process(command, runs, stdout, stderr)
                self._starting = []
                code = _wait_or_kill(process)
            except Exception as error:  # noqa: BLE001 - settings may be wrong, and are read again
                self._starting = []
                log.warning("The lineage of %d DAG runs is not shown in MLflow yet: %s", len(runs), error)
                return None
            _log_output(code, len(runs), _read_text(stdout), _read_text(stderr))
        if code == 0 and catch_up:
            self._last_catch_up = now
        return code

    def _start_process(
        self, command: Sequence[str], ended: Sequence[EndedDagRun], stdout: IO[bytes], stderr: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start a child process that can outlive this one: its input and its output are files, not pipes."""
        is_backfill = any(each.is_backfill for each in ended)
        request = FinalizeRequest([each.run for each in ended], self._find_stacks(), is_backfill)
        with _open_unnamed_file() as given:
            given.write(msgspec.json.encode(request))
            given.seek(0)
            return subprocess.Popen(command, stdin=given, stdout=stdout, stderr=stderr, start_new_session=True)


def _open_unnamed_file() -> IO[bytes]:
    """Open a file for secrets, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("airflow-zen"), "w+b")
    return TemporaryFile()


def find_all_stacks() -> Sequence[StackAccess]:
    """Return the access data of each stack for a child process."""
    from airflow_zen.config.options import load_stacks_file, stack_names

    return [_find_stack(name) for name in stack_names(load_stacks_file())]


def _find_stack(name: str) -> StackAccess:
    from airflow_zen.config.settings import Settings, artifact_connection, tracking_server

    try:
        settings = Settings.read(name)
        # In a process that runs tasks, such as one that calls `dag.test()`, the answer could go to a task.
        is_server = os.environ.get("_AIRFLOW_PROCESS_CONTEXT") == "server"
        if not is_server and (settings.artifact_conn_id or settings.mlflow_conn_id):
            return StackAccess(name)
        connection, server = artifact_connection(settings), tracking_server(settings)
    except Exception as error:  # noqa: BLE001 - the child process tries again, and names the stack
        log.debug("Stack %r is opened by the child process: %s", name, error)
        return StackAccess(name)
    stored = msgspec.convert(connection, StoredConnection, from_attributes=True) if connection else None
    fields = asdict(server) if server else None
    return StackAccess(name, settings.artifact_root, stored, fields, settings.lineage_trace)


def _wait_or_kill(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(PROCESS_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def _read_text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _log_output(code: int, count: int, stdout: str, stderr: str) -> None:
    """Log the output of a child process, by its exit code; `count` is the number of its DAG runs."""
    for line in stdout.splitlines():
        if line.startswith(BACKFILL_PREFIX):
            log.info("%s", line)
    if code == EXIT_CODE_PENDING:
        log.info("Some lineage is not in MLflow yet; it is sent again later. %s", stderr[-1000:])
    elif code:
        log.warning("The lineage of %d DAG runs is not shown in MLflow yet: %s", count, stderr[-2000:])


def next_retry_delay(code: int | None, delay: float | None, retry_delay: float = _RETRY_DELAY) -> float | None:
    """Return the seconds until the next child process: `retry_delay`, then twice as long each time, 600 at most.

    None after success: the next process starts when a DAG run ends. `code` is the exit code of the last process,
    `delay` the delay before it.
    """
    if code == 0:
        return None
    return min(delay * 2 if delay else retry_delay, _MAX_RETRY_DELAY)
