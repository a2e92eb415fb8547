"""The process of a step on a node of a Ray cluster, which an actor starts; only Python's own library is imported."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

# As in the runner, which this process need not be able to import.
_LIFELINE_VARIABLE = "AIRFLOW_ZEN_LIFELINE"
_SECONDS_TO_STOP = 3.0
_LINES_AT_ONCE = 1000


class StepProcess:
    """A command with text on its standard input, and its output by line; the command ends with this process.

    `job` is the configuration of Ray in the command: the cluster's address, and the runtime environment.
    """

    def __init__(self, command: Sequence[str], text: str, job: Mapping[str, Any]) -> None:
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._lifeline, read = os.pipe()[::-1]
        configuration = {"runtime_env": job["runtime_env"], "metadata": {}}
        environment = {
            **os.environ,
            "RAY_ADDRESS": job["address"],
            "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(configuration),
            _LIFELINE_VARIABLE: str(read),
        }
        self._child = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[read],
            text=True,
            errors="replace",
        )
        os.close(read)
        threading.Thread(target=self._feed, args=(text,), daemon=True).start()
        threading.Thread(target=self._pump, daemon=True).start()

    def read(self, timeout: float) -> tuple[list[str], int | None]:
        """Wait for output for some seconds; return the new lines, and the exit code after the last one."""
        lines: list[str] = []
        with suppress(queue.Empty):
            while len(lines) < _LINES_AT_ONCE:
                line = self._lines.get(timeout=0 if lines else timeout)
                if line is None:
                    return lines, self._child.wait()
                lines.append(line)
        return lines, None

    def stop(self) -> None:
        """Send SIGTERM, and give the function time to clean up; then end the process group."""
        self._child.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(_SECONDS_TO_STOP)
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)

    def _feed(self, text: str) -> None:
        with suppress(BrokenPipeError), self._child.stdin as stdin:  # type: ignore[union-attr]
            stdin.write(text)

    def _pump(self) -> None:
        for line in self._child.stdout:  # type: ignore[union-attr]
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)
