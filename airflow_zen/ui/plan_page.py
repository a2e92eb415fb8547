"""The plan of a DAG, made by `airflow zen plan` in a process of its own, because it runs the code of the DAG file."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from threading import Lock
from typing import Any

from airflow_zen.ui.dag_responses import PlannedRow, PlanPage

_COMMAND = (sys.executable, "-m", "airflow", "zen", "plan", "--output", "json")
# Seconds.
_TIMEOUT, _MAX_AGE = 120.0, 30.0
_MAX_KEPT = 50
_MAX_ERROR = 2000


class Planner:
    """Make one plan at a time, and keep each for half a minute, so that readers cannot keep the host busy."""

    def __init__(self, command: tuple[str, ...] = _COMMAND) -> None:
        self._command = command
        self._lock = Lock()
        self._known: dict[str, tuple[float, PlanPage]] = {}

    def plan(self, dag_id: str) -> PlanPage:
        """Return the plan of a run started now, or why there is none."""
        with self._lock:
            now = time.monotonic()
            made, page = self._known.get(dag_id, (-_MAX_AGE, None))
            if page is None or now - made >= _MAX_AGE:
                page = self._make(dag_id)
                self._known = dict([*self._known.items()][-_MAX_KEPT:])
                self._known[dag_id] = time.monotonic(), page
            return page

    def _make(self, dag_id: str) -> PlanPage:
        try:
            done = subprocess.run(
                [*self._command, "--", dag_id],
                capture_output=True,
                text=True,
                timeout=_TIMEOUT,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _error(
                dag_id, f"The plan took longer than {_TIMEOUT:.0f} s. Make it with `airflow zen plan {dag_id}`."
            )
        if done.returncode:
            return _error(dag_id, done.stderr.strip()[-_MAX_ERROR:] or "`airflow zen plan` failed.")
        try:
            # The DAG file may print, too.
            steps = [_row(each) for each in json.JSONDecoder().raw_decode(done.stdout, done.stdout.index("[{"))[0]]
        except (ValueError, KeyError, TypeError) as error:
            return _error(dag_id, f"`airflow zen plan` printed no plan ({error!r}): {done.stdout[:_MAX_ERROR]!r}.")
        return PlanPage(dag_id=dag_id, steps=steps)


def _error(dag_id: str, text: str) -> PlanPage:
    return PlanPage(dag_id=dag_id, steps=[], error=text)


def _row(planned: Mapping[str, Any]) -> PlannedRow:
    return PlannedRow(
        task_id=planned["task"],
        plan=planned["plan"],
        why=planned["why"],
        seconds=planned["seconds"],
        size=planned["bytes"],
        warning=str(planned.get("warning") or ""),
    )
