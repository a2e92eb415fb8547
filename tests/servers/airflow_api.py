"""A client of Airflow's public API (v2)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from airflow_zen.errors import ZenError
from airflow_zen.localstack.services import HttpError, airflow_token, request_json

# Seconds between attempts if Airflow's database refuses a request, as SQLite does during another write.
_RETRY_DELAYS = (0.2, 0.5, 1, 2)
# Seconds. An answer takes CPU from the tasks that are waited for.
_POLL_INTERVAL = 1.0
_DATABASE_ERROR = '"reason":"Database error"'


class WaitTimeout(ZenError, TimeoutError):
    """An expected state was not reached in time."""


class DagRun(msgspec.Struct, frozen=True):
    """One run of a DAG."""

    dag_id: str
    run_id: str = msgspec.field(name="dag_run_id")
    state: str


class TaskInstance(msgspec.Struct, frozen=True):
    """One task of a DAG run; `map_index` is -1 for a task that is not mapped.

    duration: seconds as Airflow measures them; None before the end.
    """

    task_id: str
    map_index: int
    try_number: int
    state: str | None
    duration: float | None
    started: str | None = msgspec.field(name="start_date")


class AirflowApi:
    """A client of one Airflow, as its user `admin` with a password, or as anyone where everyone is an admin."""

    def __init__(self, url: str, password: str = "") -> None:
        self.url = url.rstrip("/")
        self._password = password

    def health(self) -> dict[str, Any]:
        """Return the state and the latest heartbeat of each component."""
        answer: dict[str, Any] = request_json("GET", f"{self.url}/api/v2/monitor/health", timeout=5)
        return answer

    def wait_for_dag(self, dag_id: str, timeout: float = 60, import_error_grace: float = 15) -> None:
        """Wait until the DAG is parsed.

        timeout: seconds. import_error_grace: seconds to keep waiting after an import error of any DAG file.
        Raises `WaitTimeout` with the stack traces of the import errors.
        """
        deadline = time.monotonic() + timeout
        errors: list[dict[str, Any]] = []
        while self._call_or_none(f"/dags/{quote(dag_id)}") is None:
            if not errors and (errors := self._list("/importErrors", "import_errors")):
                deadline = min(deadline, time.monotonic() + import_error_grace)
            if time.monotonic() > deadline:
                failures = [f"{error['filename']} cannot be imported:\n{error['stack_trace']}" for error in errors]
                reason = "\n".join(failures) or "Is its file in the DAGs folder?"
                raise WaitTimeout(f"No DAG {dag_id!r} was parsed in time. {reason}")
            time.sleep(_POLL_INTERVAL)

    def pause(self, dag_id: str) -> None:
        """Let the scheduler start nothing of the DAG."""
        self._call("PATCH", f"/dags/{quote(dag_id)}", {"is_paused": True})

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run the DAG."""
        self._call("PATCH", f"/dags/{quote(dag_id)}", {"is_paused": False})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> DagRun:
        """Start a run, and return it."""
        body = {"logical_date": None, "conf": conf or {}}
        return msgspec.convert(self._call("POST", f"/dags/{quote(dag_id)}/dagRuns", body), DagRun)

    def dag_runs(self, dag_id: str) -> list[DagRun]:
        """Return the runs of a DAG, the first first."""
        return msgspec.convert(self._list(f"/dags/{quote(dag_id)}/dagRuns", "dag_runs"), list[DagRun])

    def answer(self, run: DagRun, task_id: str, option: str) -> None:
        """Answer the question of a task as a person does."""
        path = f"{_path(run)}/taskInstances/{quote(task_id)}/-1/hitlDetails"
        self._call("PATCH", path, {"chosen_options": [option], "params_input": {}})

    def wait_for_dag_run(self, run: DagRun, timeout: float = 300) -> DagRun:
        """Wait until the run has ended, and return it in its final state.

        timeout: seconds. Raises `WaitTimeout` with the states of the tasks.
        """
        deadline = time.monotonic() + timeout
        while (run := msgspec.convert(self._call("GET", _path(run)), DagRun)).state not in ("success", "failed"):
            if time.monotonic() > deadline:
                states = ", ".join(f"{task.task_id}: {task.state}" for task in self.task_instances(run))
                raise WaitTimeout(f"{run.dag_id!r} did not end within {timeout:g} s ({states}).")
            time.sleep(_POLL_INTERVAL)
        return run

    def task_instances(self, run: DagRun) -> list[TaskInstance]:
        """Return the task instances of a run in the order of their start."""
        found = msgspec.convert(self._list(f"{_path(run)}/taskInstances", "task_instances"), list[TaskInstance])
        return sorted(found, key=lambda task: (task.started or "~", task.task_id, task.map_index))

    def xcom(self, run: DagRun, task: TaskInstance, key: str = "return_value") -> Any:
        """Return one XCom entry as JSON; None if the task pushed none."""
        query = urlencode({"map_index": task.map_index, "deserialize": "false", "stringify": "false"})
        entry = self._call_or_none(f"{_path(run, task)}/xcomEntries/{quote(key)}?{query}")
        return None if entry is None else entry["value"]

    def log(self, run: DagRun, task: TaskInstance) -> str:
        """Return the log of the task's latest try, one line per event."""
        query = urlencode({"map_index": task.map_index, "full_content": "true"})
        answer = self._call("GET", f"{_path(run, task)}/logs/{max(task.try_number, 1)}?{query}")
        return "\n".join(_format_event(event) for event in answer["content"])

    def dag_run_url(self, run: DagRun) -> str:
        """Return the URL of the run in Airflow's UI."""
        return f"{self.url}/dags/{quote(run.dag_id)}/runs/{quote(run.run_id, safe='')}"

    @cached_property
    def _token(self) -> str:
        if self._password:
            return airflow_token(self.url, self._password)
        return str(request_json("GET", f"{self.url}/auth/token")["access_token"])

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request; repeat it if the database refused it, because then nothing was written."""
        headers = {"Authorization": f"Bearer {self._token}"}
        for delay in (*_RETRY_DELAYS, None):
            try:
                return request_json(method, f"{self.url}/api/v2{path}", body, headers)
            except HttpError as error:
                if delay is None or error.status != 500 or _DATABASE_ERROR not in str(error):
                    raise
                time.sleep(delay)
        return None

    def _call_or_none(self, path: str) -> Any:
        try:
            return self._call("GET", path)
        except HttpError as error:
            if error.status == 404:
                return None
            raise

    def _list(self, path: str, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = self._call("GET", f"{path}?{urlencode({'limit': 100, 'offset': len(found)})}")
            found += page[name]
            if not page[name] or len(found) >= page["total_entries"]:
                return found


def _path(run: DagRun, task: TaskInstance | None = None) -> str:
    path = f"/dags/{quote(run.dag_id)}/dagRuns/{quote(run.run_id, safe='')}"
    return path if task is None else f"{path}/taskInstances/{quote(task.task_id)}"


def _format_event(event: Mapping[str, Any] | str) -> str:
    if isinstance(event, str):
        return event
    line = f"{event.get('timestamp') or ''} {event.get('level') or ''} {event.get('event')}".strip()
    return "\n".join([line, *(text for error in event.get("error_detail") or () for text in _format_exception(error))])


def _format_exception(error: Mapping[str, Any]) -> list[str]:
    """Return an exception as Python prints it, without the source lines."""
    frames = [
        f'  File "{frame.get("filename")}", line {frame.get("lineno")}, in {frame.get("name")}'
        for frame in error.get("frames") or ()
    ]
    return [*frames, f"{error.get('exc_type')}: {error.get('exc_value')}"]
