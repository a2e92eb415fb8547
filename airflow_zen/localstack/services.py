"""The services of a local stack: commands, environment, readiness checks, and HTTP requests to them."""

from __future__ import annotations

import base64
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from airflow_zen.errors import ZenError
from airflow_zen.localstack import s3 as local_s3
from airflow_zen.localstack.processes import MARK_VARIABLE, Process
from airflow_zen.localstack.state import Layout, load_or_create_secrets

AIRFLOW_COMMAND = [sys.executable, "-m", "airflow"]
MIGRATE_COMMAND = [*AIRFLOW_COMMAND, "db", "migrate"]
# The settings of the machine's own Airflow and MLflow do not apply to this stack; AIRFLOW_CONN_* and AIRFLOW_VAR_* do.
EXCLUDED_PREFIXES = ("AIRFLOW__", "AIRFLOW_HOME", "AIRFLOW_CONFIG", "_AIRFLOW_", "MLFLOW_")


@dataclass(frozen=True)
class Service:
    """One server process of the stack.

    ready: returns a true value if it works; raises `HttpError` while it does not answer.
    """

    name: str
    command: Callable[[Layout], list[str]]
    ready: Callable[[Layout, Process], Any]

    def is_ready(self, layout: Layout, process: Process) -> bool:
        """Whether its process answers and works."""
        with suppress(HttpError):
            return bool(self.ready(layout, process))
        return False


def service_environment(layout: Layout, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of every service; `settings` take precedence over our variables."""
    # Keys, profiles and endpoints of the machine's own S3 would mix with those of the stack.
    excluded = (*EXCLUDED_PREFIXES, "AWS_") if layout.s3_server else EXCLUDED_PREFIXES
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(excluded)}
    loopback = ",".join(filter(None, [inherited.get("NO_PROXY"), "127.0.0.1", "localhost"]))
    return {
        **inherited,
        MARK_VARIABLE: layout.mark,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', os.defpath)}",
        "NO_PROXY": loopback,
        "no_proxy": loopback,
        "PYTHONUNBUFFERED": "1",
        # Airflow renames its processes; this keeps the mark in their environment.
        "SPT_NOENV": "1",
        **_airflow_settings(layout),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **(local_s3.s3_environment(layout) if layout.s3_server else {}),
        **settings,
    }


def _airflow_settings(layout: Layout) -> dict[str, str]:
    options = {
        "CORE__DAGS_FOLDER": str(layout.dags),
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTION_API_SERVER_URL": f"{layout.airflow_url}/execution/",
        # Airflow's default, the fully qualified name, can take seconds to resolve on a laptop.
        "CORE__HOSTNAME_CALLABLE": "socket.gethostname",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{layout.airflow_home / 'airflow.db'}",
        "API__BASE_URL": layout.airflow_url,
        "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        # Halves the wait between two short tasks, for a few percent of one core.
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.25",
        "ZEN__ARTIFACT_ROOT": str(layout.directory / "artifacts"),
        "ZEN__MLFLOW_TRACKING_URI": layout.mlflow_url,
        **load_or_create_secrets(layout.directory / "secrets.json", _new_secrets),
    }
    return {"AIRFLOW_HOME": str(layout.airflow_home), **{f"AIRFLOW__{name}": value for name, value in options.items()}}


def _new_secrets() -> dict[str, str]:
    return {
        "CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "API__SECRET_KEY": secrets.token_urlsafe(48),
        "API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
    }


def _mlflow_command(layout: Layout) -> list[str]:
    """Return the command of MLflow with one worker: its default of four, with job consumers, makes a dozen processes."""
    state = layout.directory / "mlflow"
    return [
        *[sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(layout.mlflow_port)],
        *["--backend-store-uri", f"sqlite:///{state / 'mlflow.db'}"],
        *["--artifacts-destination", str(state / "artifacts")],
        *["--workers", "1", "--allowed-hosts", "localhost:*,127.0.0.1:*"],
    ]


def _airflow_command(*arguments: str) -> Callable[[Layout], list[str]]:
    return lambda _layout: [*AIRFLOW_COMMAND, *arguments]


def _api_server_command(layout: Layout) -> list[str]:
    where = ["--host", "127.0.0.1", "--port", str(layout.airflow_port)]
    return [*AIRFLOW_COMMAND, "api-server", "--workers", "1", *where]


def _heartbeat_check(component: str) -> Callable[[Layout, Process], bool]:
    """Return a check for a heartbeat after the start of the process: an earlier one is of another process."""

    def ready(layout: Layout, process: Process) -> bool:
        state = _airflow_health(layout).get(component) or {}
        heartbeat = state.get(f"latest_{component}_heartbeat")
        return heartbeat is not None and datetime.fromisoformat(heartbeat).timestamp() > process.started

    return ready


def _airflow_health(layout: Layout) -> Any:
    return request_json("GET", f"{layout.airflow_url}/api/v2/monitor/health", timeout=5)


def _is_api_server_ready(layout: Layout, _process: Process) -> bool:
    # Airflow builds the execution API at its first request; with this request the first task need not wait for it.
    request_json("GET", f"{layout.airflow_url}/execution/health")
    return bool(_airflow_health(layout)["metadatabase"]["status"] == "healthy")


# The API server takes longest to start, and tasks need it.
AIRFLOW_SERVICES = (
    Service("api-server", _api_server_command, _is_api_server_ready),
    Service("dag-processor", _airflow_command("dag-processor"), _heartbeat_check("dag_processor")),
    Service("scheduler", _airflow_command("scheduler", "--skip-serve-logs"), _heartbeat_check("scheduler")),
    Service("triggerer", _airflow_command("triggerer", "--skip-serve-logs"), _heartbeat_check("triggerer")),
)
MLFLOW = Service(
    "mlflow", _mlflow_command, lambda layout, _: request_json("GET", f"{layout.mlflow_url}/health", timeout=2)
)
S3 = Service("s3", local_s3.server_command, lambda layout, _process: local_s3.is_ready(layout))


def services_of(layout: Layout) -> tuple[Service, ...]:
    """Return the services of a stack in the order of their start."""
    return (*((S3,) if layout.s3_server else ()), MLFLOW, *AIRFLOW_SERVICES)


class HttpError(ZenError, ConnectionError):
    """A server did not answer, or answered with an error.

    status: the HTTP status; 0 without an answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def request_json(
    method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout: float = 30
) -> Any:
    """Send one request; return the decoded JSON answer, or the text of another answer.

    timeout: seconds. Raises `HttpError`.
    """
    try:
        answer = _client().request(method, url, json=body, headers=headers, timeout=timeout)
    except httpx.HTTPError as error:
        raise HttpError(f"{method} {url} was not answered: {error}") from error
    if answer.is_error:
        raise HttpError(f"{method} {url} was answered with {answer.status_code}: {answer.text}", answer.status_code)
    is_json = answer.headers.get("Content-Type", "").startswith("application/json")
    return answer.json() if is_json and answer.content else answer.text


@cache
def _client() -> httpx.Client:
    """Return a client that uses no proxy of the environment, because the servers are on the loopback."""
    # A kept connection could belong to a server that has ended.
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(trust_env=False, follow_redirects=True, limits=limits, headers={"Accept": "application/json"})
