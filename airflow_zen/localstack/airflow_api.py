"""A small client of Airflow's public API (v2), as far as a demo and tests need it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

from airflow_zen.errors import ZenError

# Seconds between two tries where Airflow's database refuses: SQLite does while somebody else writes.
_RETRY_DELAYS = (0.2, 0.5, 1, 2)
_DATABASE_ERROR = '"reason":"Database error"'


class WaitTimeout(ZenError, TimeoutError):
    """Something did not happen within its time."""


@dataclass(frozen=True)
class DagRun:
    """One run of a DAG."""

    dag_id: str
    run_id: str
    state: str

    @property
    def ended(self) -> bool:
        """Whether it has succeeded or failed."""
        return self.state in ("success", "failed")


@dataclass(frozen=True)
class TaskInstance:
    """One task of a DAG run; `map_index` is -1 where the task is not mapped.

    duration: seconds, as Airflow counts them; None before it has ended.
    """

    task_id: str
    map_index: int
    try_number: int
    state: str | None
    duration: float | None
    started: str | None


class AirflowApi:
    """Talk to one Airflow whose SimpleAuthManager lets everybody in (`simple_auth_manager_all_admins`)."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def health(self) -> dict[str, Any]:
        """Give the state and the latest heartbeat of each component."""
        answer: dict[str, Any] = request_json("GET", f"{self.url}/api/v2/monitor/health", timeout=5)
        return answer

    def has_dag(self, dag_id: str) -> bool:
        """Tell whether the DAG has been parsed."""
        try:
            self._call("GET", f"/dags/{quote(dag_id)}")
        except HttpError as error:
            if error.status == 404:
                return False
            raise
        return True

    def import_errors(self) -> dict[str, str]:
        """Give the stack trace of each DAG file that could not be parsed, by its path."""
        return {error["filename"]: error["stack_trace"] for error in self._list("/importErrors", "import_errors")}

    def wait_for_dag(self, dag_id: str, timeout: float = 60, import_error_grace: float = 15) -> None:
        """Wait until the DAG is parsed.

        timeout: seconds. patience: seconds to go on waiting once a DAG file, this one or another, cannot be imported.
        Raises `WaitTimeout` with the stack traces of the files that cannot be imported.
        """
        deadline = time.monotonic() + timeout
        errors: dict[str, str] = {}
        while not self.has_dag(dag_id):
            if not errors and (errors := self.import_errors()):
                deadline = min(deadline, time.monotonic() + import_error_grace)
            if time.monotonic() > deadline:
                import_failures = [f"{path} cannot be imported:\n{trace}" for path, trace in errors.items()]
                place = "\n".join(import_failures) or "Is its file in the DAGs folder?"
                raise WaitTimeout(f"No DAG {dag_id!r} was parsed in time. {place}")
            time.sleep(0.2)

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run the DAG."""
        self._call("PATCH", f"/dags/{quote(dag_id)}", {"is_paused": False})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> DagRun:
        """Start a run."""
        return _parse_dag_run(
            self._call("POST", f"/dags/{quote(dag_id)}/dagRuns", {"logical_date": None, "conf": conf or {}})
        )

    def dag_run(self, run: DagRun) -> DagRun:
        """Give the run as it is now."""
        return _parse_dag_run(self._call("GET", self._run_path(run)))

    def wait_for_dag_run(self, run: DagRun, timeout: float = 300) -> DagRun:
        """Wait until the run has ended; gives it in its final state.

        timeout: seconds. Raises `WaitTimeout` naming the tasks that have not ended.
        """
        deadline = time.monotonic() + timeout
        while not (run := self.dag_run(run)).ended:
            if time.monotonic() > deadline:
                states = ", ".join(f"{task.task_id}: {task.state}" for task in self.task_instances(run))
                raise WaitTimeout(f"{run.dag_id!r} did not end within {timeout:g} s ({states}).")
            time.sleep(0.2)
        return run

    def task_instances(self, run: DagRun) -> list[TaskInstance]:
        """List the task instances of a run in the order in which they started."""
        found = [
            _parse_task_instance(task) for task in self._list(f"{self._run_path(run)}/taskInstances", "task_instances")
        ]
        return sorted(found, key=lambda task: (task.started or "~", task.task_id, task.map_index))

    def xcom(self, run: DagRun, task: TaskInstance, key: str = "return_value") -> Any:
        """Give one XCom entry as JSON; None where the task pushed none."""
        query = urlencode({"map_index": task.map_index, "deserialize": "false", "stringify": "false"})
        try:
            entry = self._call("GET", f"{self._task_path(run, task)}/xcomEntries/{quote(key)}?{query}")
        except HttpError as error:
            if error.status == 404:
                return None
            raise
        return entry["value"]

    def log(self, run: DagRun, task: TaskInstance) -> str:
        """Give the log of the task's latest try, one line per event."""
        query = urlencode({"map_index": task.map_index, "full_content": "true"})
        answer = self._call("GET", f"{self._task_path(run, task)}/logs/{max(task.try_number, 1)}?{query}")
        return "\n".join(_format_event(event) for event in answer["content"])

    def dag_run_url(self, run: DagRun) -> str:
        """Give the address of the run in Airflow's UI."""
        return f"{self.url}/dags/{quote(run.dag_id)}/runs/{quote(run.run_id, safe='')}"

    @cached_property
    def _token(self) -> str:
        return str(request_json("GET", f"{self.url}/auth/token")["access_token"])

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        """Ask again where the database refused: nothing of the request was written then."""
        for pause in _RETRY_DELAYS:
            try:
                return self._call_once(method, path, body)
            except HttpError as error:
                if error.status != 500 or _DATABASE_ERROR not in str(error):
                    raise
            time.sleep(pause)
        return self._call_once(method, path, body)

    def _call_once(self, method: str, path: str, body: Any) -> Any:
        return request_json(method, f"{self.url}/api/v2{path}", body, {"Authorization": f"Bearer {self._token}"})

    def _list(self, path: str, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = self._call("GET", f"{path}?{urlencode({'limit': 100, 'offset': len(found)})}")
            found += page[name]
            if not page[name] or len(found) >= page["total_entries"]:
                return found

    def _run_path(self, run: DagRun) -> str:
        return f"/dags/{quote(run.dag_id)}/dagRuns/{quote(run.run_id, safe='')}"

    def _task_path(self, run: DagRun, task: TaskInstance) -> str:
        return f"{self._run_path(run)}/taskInstances/{quote(task.task_id)}"


def _parse_dag_run(answer: Mapping[str, Any]) -> DagRun:
    return DagRun(answer["dag_id"], answer["dag_run_id"], answer["state"])


def _parse_task_instance(answer: Mapping[str, Any]) -> TaskInstance:
    return TaskInstance(
        answer["task_id"],
        answer["map_index"],
        answer["try_number"],
        answer["state"],
        answer["duration"],
        answer["start_date"],
    )


def _format_event(event: Mapping[str, Any] | str) -> str:
    if isinstance(event, str):
        return event
    line = f"{event.get('timestamp') or ''} {event.get('level') or ''} {event.get('event')}".strip()
    return "\n".join([line, *(text for error in event.get("error_detail") or () for text in _format_exception(error))])


def _format_exception(error: Mapping[str, Any]) -> list[str]:
    """Write an exception as Python does, without the source lines."""
    frames = [
        f'  File "{frame.get("filename")}", line {frame.get("lineno")}, in {frame.get("name")}'
        for frame in error.get("frames") or ()
    ]
    return [*frames, f"{error.get('exc_type')}: {error.get('exc_value')}"]


# A proxy of the environment must not see what is meant for the loopback.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class HttpError(ZenError, ConnectionError):
    """A server did not answer, or answered with an error.

    status: the HTTP status; 0 where there was no answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def request_json(
    method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout: float = 30
) -> Any:
    """Send one request; gives the decoded JSON answer, or the text of an answer in another form."""
    request = urllib.request.Request(  # noqa: S310 - every caller builds an http URL
        url,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Accept": "application/json", "Content-Type": "application/json", **(headers or {})},
    )
    try:
        with _OPENER.open(request, timeout=timeout) as answer:
            text = answer.read().decode()
            return json.loads(text) if answer.headers.get_content_type() == "application/json" and text else text
    except urllib.error.HTTPError as error:
        detail = error.read().decode(errors="replace")
        raise HttpError(f"{method} {url} was answered with {error.code}: {detail}", error.code) from error
    except OSError as error:
        raise HttpError(f"{method} {url} was not answered: {error}") from error
