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

from msgspec.structs import asdict

from airflow_zen.lineage.ended import EndedDagRun

log = logging.getLogger("airflow_zen.plugin")

# What the process prints of backfills is for Airflow's own log; Airflow may print more.
TELLS = "backfill "

# The process says with this exit code that something is still owed.
OWED = 75

# With this argument the process also looks for the ends of DAG runs that no process heard.
CATCH_UP = "--catch-up"

_COMMAND = (sys.executable, "-m", "airflow_zen.plugin.follow_up")
_LONGEST = 900.0
_RETRY, _LONGEST_RETRY = 60.0, 600.0
_CATCH_UP_AGAIN = 3600.0
_AT_EXIT = 20.0

# DAG runs that a process did not take, because it failed, are kept for the next one: the latest of them.
_MOST_KEPT = 10_000


class Follower:
    """Gather ended DAG runs, and hand them to a process of our own.

    A store's client runs threads that do not survive a fork, and schedulers fork tasks: so no store is
    opened here. While MLflow is away, or the process fails, it is started again after a pause, until
    nothing is owed. The first process, and then one in an hour, also looks for ends that nobody heard.
    """

    def __init__(self, command: Sequence[str] = _COMMAND, retry: float = _RETRY) -> None:
        self._command = command
        self._retry = retry
        self._waiting: list[EndedDagRun] = []
        self._news = threading.Condition()
        self._worker: threading.Thread | None = None
        self._pid = 0
        self._idle = True
        self._awake = False
        self._looked = False
        self._caught_up: float | None = None

    def follow(self, run: EndedDagRun) -> None:
        """Take note of an ended DAG run; returns at once."""
        self._anew_after_fork()
        with self._news:
            self._waiting.append(run)
            self._wake()

    @property
    def looked(self) -> bool:
        """Tell whether this process has seen, or will see, to what was left undone before."""
        return self._looked and self._pid == os.getpid()

    def look(self) -> None:
        """See once to what the processes before this one left undone; returns at once."""
        self._anew_after_fork()
        with self._news:
            if not self._looked:
                self._wake()

    def settle(self, timeout: float) -> bool:
        """Wait until the work at hand is done, at most `timeout` seconds; tell whether it is."""
        if self._pid != os.getpid():
            return True
        with self._news:
            return self._news.wait_for(lambda: self._idle, timeout)

    def _wake(self) -> None:
        self._looked, self._awake, self._idle = True, True, False
        self._news.notify_all()
        if self._worker is None or not self._worker.is_alive():
            self._worker = threading.Thread(target=self._work, name="airflow-zen-follower", daemon=True)
            self._worker.start()

    def _anew_after_fork(self) -> None:
        """Forget the thread and the lock of the process this one was forked from."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._news = threading.Condition()
        self._waiting, self._worker, self._idle, self._awake = [], None, True, False
        self._looked, self._caught_up = False, None
        # A process that ends right after its DAG run, such as `dag.test()`, waits for the graph.
        atexit.register(self.settle, _AT_EXIT)

    def _work(self) -> None:
        pause: float | None = None
        kept: list[EndedDagRun] = []
        while True:
            with self._news:
                self._idle = not self._awake
                self._news.notify_all()
                self._news.wait_for(lambda: self._awake, pause)
                runs, self._waiting, self._awake = [*kept, *self._waiting], [], False
            code = self._run(runs)
            kept = [] if code in {0, OWED} else runs[-_MOST_KEPT:]
            pause = next_pause(code, pause, self._retry)

    def _run(self, runs: Sequence[EndedDagRun]) -> int | None:
        """Start the process and wait for it; give its exit code, None where it has none."""
        written = json.dumps([asdict(run) for run in runs])
        now = time.monotonic()
        catch_up = self._caught_up is None or now - self._caught_up >= _CATCH_UP_AGAIN
        command = [*self._command, CATCH_UP] if catch_up else [*self._command]
        try:
            done = subprocess.run(command, input=written, text=True, capture_output=True, timeout=_LONGEST, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            log.warning("The lineage of %d DAG runs is not shown in MLflow yet: %s", len(runs), error)
            return None
        for line in done.stdout.splitlines():
            if line.startswith(TELLS):
                log.info("%s", line)
        if catch_up and done.returncode == 0:
            self._caught_up = now
        if done.returncode == OWED:
            log.info("MLflow has not got all lineage yet; trying again later. %s", done.stderr[-1000:])
        elif done.returncode:
            log.warning("The lineage of %d DAG runs is not shown in MLflow yet: %s", len(runs), done.stderr[-2000:])
        return done.returncode


def next_pause(code: int | None, pause: float | None, retry: float = _RETRY) -> float | None:
    """Give the seconds until the process is started again: `retry`, then twice as long each time, 600 at most.

    None, which is until the next DAG run ends, once nothing is owed. `code` is the exit code of the process
    before, `pause` the pause before that one.
    """
    if code == 0:
        return None
    return min(pause * 2 if pause else retry, _LONGEST_RETRY)
