"""Do what follows the end of DAG runs in a process of its own, one at a time."""

from __future__ import annotations

import atexit
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict

from airflow_zen.lineage.ended import EndedDagRun

log = logging.getLogger("airflow_zen.plugin")

# What the process prints of backfills is for Airflow's own log; Airflow may print more.
TELLS = "backfill "

# The process says with this exit code that something is still owed.
OWED = 75

_COMMAND = (sys.executable, "-m", "airflow_zen.plugin.follow_up")
_LONGEST = 900.0
_RETRY, _LONGEST_RETRY = 60.0, 600.0
_AT_EXIT = 20.0

# DAG runs that a process did not take, because it failed, are kept for the next one: the latest of them.
_MOST_KEPT = 10_000


class Follower:
    """Gather ended DAG runs, and hand them to a process of our own.

    A store's client runs threads that do not survive a fork, and schedulers fork tasks: so no store is
    opened here. While MLflow is away, or the process fails, it is started again after a pause, until
    nothing is owed.
    """

    def __init__(self, command: Sequence[str] = _COMMAND, retry: float = _RETRY) -> None:
        self._command = command
        self._retry = retry
        self._waiting: list[EndedDagRun] = []
        self._news = threading.Condition()
        self._worker: threading.Thread | None = None
        self._pid = 0
        self._idle = True

    def follow(self, run: EndedDagRun) -> None:
        """Take note of an ended DAG run; returns at once."""
        self._anew_after_fork()
        with self._news:
            self._waiting.append(run)
            self._idle = False
            self._news.notify_all()
            if self._worker is None or not self._worker.is_alive():
                self._worker = threading.Thread(target=self._work, name="airflow-zen-follower", daemon=True)
                self._worker.start()

    def settle(self, timeout: float) -> bool:
        """Wait until the work at hand is done, at most `timeout` seconds; tell whether it is."""
        if self._pid != os.getpid():
            return True
        with self._news:
            return self._news.wait_for(lambda: self._idle, timeout)

    def _anew_after_fork(self) -> None:
        """Forget the thread and the lock of the process this one was forked from."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._news = threading.Condition()
        self._waiting, self._worker, self._idle = [], None, True
        # A process that ends right after its DAG run, such as `dag.test()`, waits for the graph.
        atexit.register(self.settle, _AT_EXIT)

    def _work(self) -> None:
        pause: float | None = None
        kept: list[EndedDagRun] = []
        while True:
            with self._news:
                self._idle = not self._waiting
                self._news.notify_all()
                self._news.wait_for(lambda: self._waiting, pause)
                runs, self._waiting = [*kept, *self._waiting], []
            code = self._run(runs)
            kept = [] if code in {0, OWED} else runs[-_MOST_KEPT:]
            pause = None if code == 0 else min((pause or self._retry / 2) * 2, _LONGEST_RETRY)

    def _run(self, runs: Sequence[EndedDagRun]) -> int | None:
        """Start the process and wait for it; give its exit code, None where it has none."""
        written = json.dumps([asdict(run) for run in runs])
        try:
            done = subprocess.run(
                [*self._command], input=written, text=True, capture_output=True, timeout=_LONGEST, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            log.warning("The lineage of %d DAG runs is not shown in MLflow yet: %s", len(runs), error)
            return None
        for line in done.stdout.splitlines():
            if line.startswith(TELLS):
                log.info("%s", line)
        if done.returncode == OWED:
            log.info("MLflow has not got all lineage yet; trying again later. %s", done.stderr[-1000:])
        elif done.returncode:
            log.warning("The lineage of %d DAG runs is not shown in MLflow yet: %s", len(runs), done.stderr[-2000:])
        return done.returncode
