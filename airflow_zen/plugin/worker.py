"""Do what follows the end of DAG runs in a process of its own, one at a time."""

from __future__ import annotations

import atexit
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import asdict

if TYPE_CHECKING:
    from airflow_zen.runs.step_run import FinishedDagRun

log = logging.getLogger("airflow_zen.plugin")

# What the process prints of backfills is for Airflow's own log; Airflow may print more.
BACKFILL_PREFIX = "backfill "

# The process says with this exit code that something is still owed.
EXIT_CODE_PENDING = 75

# With this argument the process also looks for the ends of DAG runs that no process heard.
CATCH_UP_FLAG = "--catch-up"

_COMMAND = (sys.executable, "-m", "airflow_zen.plugin.finalize")
_PROCESS_TIMEOUT = 900.0
_RETRY_DELAY, _MAX_RETRY_DELAY = 60.0, 600.0
_CATCH_UP_INTERVAL = 3600.0
_EXIT_TIMEOUT = 20.0

# DAG runs that a process did not take, because it failed, are kept for the next one: the latest of them.
_MAX_REQUEUED = 10_000


class DagRunWorker:
    """Gather ended DAG runs, and hand them to a process of our own.

    A store's client runs threads that do not survive a fork, and schedulers fork tasks: so no store is
    opened here. While MLflow is away, or the process fails, it is started again after a pause, until
    nothing is owed. The first process, and then one in an hour, also looks for ends that nobody heard.
    """

    def __init__(self, command: Sequence[str] = _COMMAND, retry_delay: float = _RETRY_DELAY) -> None:
        self._command = command
        self._retry_delay = retry_delay
        self._queue: list[FinishedDagRun] = []
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._idle = True
        self._wake_requested = False
        self._reconciled = False
        self._last_catch_up: float | None = None

    def enqueue(self, run: FinishedDagRun) -> None:
        """Take note of an ended DAG run; returns at once."""
        self._reset_after_fork()
        with self._condition:
            self._queue.append(run)
            self._wake_thread()

    @property
    def reconciled(self) -> bool:
        """Tell whether this process has seen, or will see, to what was left undone before."""
        return self._reconciled and self._pid == os.getpid()

    def reconcile(self) -> None:
        """See once to what the processes before this one left undone; returns at once."""
        self._reset_after_fork()
        with self._condition:
            if not self._reconciled:
                self._wake_thread()

    def drain(self, timeout: float) -> bool:
        """Wait until the work at hand is done, at most `timeout` seconds; tell whether it is."""
        if self._pid != os.getpid():
            return True
        with self._condition:
            return self._condition.wait_for(lambda: self._idle, timeout)

    def _wake_thread(self) -> None:
        self._reconciled, self._wake_requested, self._idle = True, True, False
        self._condition.notify_all()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work_loop, name="airflow-zen-follower", daemon=True)
            self._thread.start()

    def _reset_after_fork(self) -> None:
        """Forget the thread and the lock of the process this one was forked from."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._condition = threading.Condition()
        self._queue, self._thread, self._idle, self._wake_requested = [], None, True, False
        self._reconciled, self._last_catch_up = False, None
        # A process that ends right after its DAG run, such as `dag.test()`, waits for the graph.
        atexit.register(self.drain, _EXIT_TIMEOUT)

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
        """Start the process and wait for it; give its exit code, None where it has none."""
        runs_json = json.dumps([asdict(run) for run in runs])
        now = time.monotonic()
        catch_up = self._last_catch_up is None or now - self._last_catch_up >= _CATCH_UP_INTERVAL
        command = [*self._command, CATCH_UP_FLAG] if catch_up else [*self._command]
        try:
            done = subprocess.run(
                command, input=runs_json, text=True, capture_output=True, timeout=_PROCESS_TIMEOUT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            log.warning("The lineage of %d DAG runs is not shown in MLflow yet: %s", len(runs), error)
            return None
        for line in done.stdout.splitlines():
            if line.startswith(BACKFILL_PREFIX):
                log.info("%s", line)
        if catch_up and done.returncode == 0:
            self._last_catch_up = now
        if done.returncode == EXIT_CODE_PENDING:
            log.info("MLflow has not got all lineage yet; trying again later. %s", done.stderr[-1000:])
        elif done.returncode:
            log.warning("The lineage of %d DAG runs is not shown in MLflow yet: %s", len(runs), done.stderr[-2000:])
        return done.returncode


def next_retry_delay(code: int | None, delay: float | None, retry_delay: float = _RETRY_DELAY) -> float | None:
    """Give the seconds until the process is started again: `retry_delay`, then twice as long each time, 600 at most.

    None, which is until the next DAG run ends, once nothing is owed. `code` is the exit code of the process
    before, `delay` the pause before that one.
    """
    if code == 0:
        return None
    return min(delay * 2 if delay else retry_delay, _MAX_RETRY_DELAY)
