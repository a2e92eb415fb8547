"""The worker that finalizes ended DAG runs in a child process, one process at a time."""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from airflow_zen.runs.step_run import FinishedDagRun

log = logging.getLogger("airflow_zen.plugin")

# The child process prints lines with this prefix for Airflow's own log.
BACKFILL_PREFIX = "backfill "

# The exit code of the child process when lineage is still to be delivered.
EXIT_CODE_PENDING = 75

# With this argument the child process also searches for missed ends of DAG runs.
CATCH_UP_FLAG = "--catch-up"

_COMMAND = (sys.executable, "-m", "airflow_zen.plugin.finalize")
_PROCESS_TIMEOUT = 900.0
_RETRY_DELAY, _MAX_RETRY_DELAY = 60.0, 600.0
_CATCH_UP_INTERVAL = 3600.0
_EXIT_TIMEOUT = 20.0

# The most DAG runs of failed processes that are kept for the next one.
_MAX_REQUEUED = 10_000


class DagRunWorker:
    """Collects ended DAG runs, and hands them to a child process.

    The clients of stores run threads that do not survive a fork, and schedulers fork: so no store is opened in this
    process. While MLflow is away, or the child process fails, it is started again after a delay. The first child
    process, and then one every hour, also searches for missed ends.
    """

    def __init__(self, command: Sequence[str] = _COMMAND, retry_delay: float = _RETRY_DELAY) -> None:
        self._command = command
        self._retry_delay = retry_delay
        self._pid = 0
        self._reset()

    def _reset(self) -> None:
        self._condition = threading.Condition()
        self._queue: list[FinishedDagRun] = []
        self._thread: threading.Thread | None = None
        self._idle, self._wake_requested, self._reconciled = True, False, False
        self._last_catch_up: float | None = None

    def enqueue(self, run: FinishedDagRun) -> None:
        """Add an ended DAG run; returns at once."""
        self._reset_after_fork()
        with self._condition:
            self._queue.append(run)
            self._wake_thread()

    @property
    def reconciled(self) -> bool:
        """Whether this process has started the delivery of earlier lineage."""
        return self._reconciled and self._pid == os.getpid()

    def reconcile(self) -> None:
        """Deliver once what earlier processes left; returns at once."""
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

    def _reset_after_fork(self) -> None:
        """Forget the thread and the lock of the parent process."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._reset()
            # A process that ends right after its DAG run, such as `dag.test()`, waits for the graph.
            atexit.register(self.drain, _EXIT_TIMEOUT)

    def _wake_thread(self) -> None:
        self._reconciled, self._wake_requested, self._idle = True, True, False
        self._condition.notify_all()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work_loop, name="airflow-zen-worker", daemon=True)
            self._thread.start()

    def _work_loop(self) -> None:
        delay: float | None = None
        requeued: list[FinishedDagRun] = []
        while True:
            with self._condition:
                self._idle = not self._wake_requested
                self._condition.notify_all()
                self._condition.wait_for(lambda: self._wake_requested, delay)
                runs, self._queue, self._wake_requested = [*requeued, *self._queue], [], False
            code = self._run_process(runs)
            requeued = [] if code in {0, EXIT_CODE_PENDING} else runs[-_MAX_REQUEUED:]
            delay = next_retry_delay(code, delay, self._retry_delay)

    def _run_process(self, runs: Sequence[FinishedDagRun]) -> int | None:
        """Run the child process, and return its exit code; None when it has none."""
        now, given = time.monotonic(), msgspec.json.encode(runs).decode()
        catch_up = self._last_catch_up is None or now - self._last_catch_up >= _CATCH_UP_INTERVAL
        command = [*self._command, *([CATCH_UP_FLAG] if catch_up else [])]
        try:
            done = subprocess.run(
                command, input=given, text=True, capture_output=True, timeout=_PROCESS_TIMEOUT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            log.warning("The lineage of %d DAG runs is not shown in MLflow yet: %s", len(runs), error)
            return None
        for line in done.stdout.splitlines():
            if line.startswith(BACKFILL_PREFIX):
                log.info("%s", line)
        if done.returncode == EXIT_CODE_PENDING:
            log.info("Some lineage is not in MLflow yet; it is sent again later. %s", done.stderr[-1000:])
        elif done.returncode:
            log.warning("The lineage of %d DAG runs is not shown in MLflow yet: %s", len(runs), done.stderr[-2000:])
        elif catch_up:
            self._last_catch_up = now
        return done.returncode


def next_retry_delay(code: int | None, delay: float | None, retry_delay: float = _RETRY_DELAY) -> float | None:
    """Return the seconds until the next child process: `retry_delay`, then twice as long each time, 600 at most.

    None after success: the next process starts when a DAG run ends. `code` is the exit code of the last process,
    `delay` the delay before it.
    """
    if code == 0:
        return None
    return min(delay * 2 if delay else retry_delay, _MAX_RETRY_DELAY)
