"""The services of a local stack: commands, environment, readiness checks, and HTTP requests to them."""

from __future__ import annotations

import base64
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from configparser import RawConfigParser
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from airflow_zen.deployment.client import find_service, service_command
from airflow_zen.deployment.state import has_deployments
from airflow_zen.errors import ZenError
from airflow_zen.localstack import s3 as local_s3
from airflow_zen.localstack.processes import MARK_VARIABLE, Process, find_marked_processes
from airflow_zen.localstack.state import AIRFLOW_USER, Layout, LocalStack, load_or_create_secrets

AIRFLOW_COMMAND = [sys.executable, "-m", "airflow"]
MIGRATE_COMMAND = [*AIRFLOW_COMMAND, "db", "migrate"]
# The settings of the machine's own Airflow and MLflow do not apply to this stack; AIRFLOW_CONN_* and AIRFLOW_VAR_* do.
OPTION_PREFIX = "AIRFLOW__"
EXCLUDED_PREFIXES = (OPTION_PREFIX, "AIRFLOW_HOME", "AIRFLOW_CONFIG", "_AIRFLOW_", "MLFLOW_")
_MLFLOW_APP = "airflow-zen-local"
_LOOPBACK = ("127.0.0.1", "localhost")
_CFG_HEADER = """\
# `airflow zen stack up local` writes this file at every start.
# Set options of your own with its `--set AIRFLOW__SECTION__OPTION=VALUE`.

"""


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


def shell_environment(layout: Layout, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a shell whose Airflow and MLflow are those of the stack; its airflow.cfg has the options."""
    # Keys, profiles and endpoints of the machine's own S3 would mix with those of the stack.
    excluded = (*EXCLUDED_PREFIXES, "AWS_") if layout.s3_server else EXCLUDED_PREFIXES
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(excluded)}
    programs = str(Path(sys.executable).parent)
    path = inherited.get("PATH", os.defpath).split(os.pathsep)
    loopback = [name for name in inherited.get("NO_PROXY", "").split(",") if name not in ("", *_LOOPBACK)]
    hosts = ",".join((*loopback, *_LOOPBACK))
    return {
        **inherited,
        "PATH": os.pathsep.join((programs, *(folder for folder in path if folder != programs))),
        "NO_PROXY": hosts,
        "no_proxy": hosts,
        "AIRFLOW_HOME": str(layout.airflow_home),
        "MLFLOW_TRACKING_URI": layout.mlflow_url,
        "MLFLOW_TRACKING_USERNAME": AIRFLOW_USER,
        "MLFLOW_TRACKING_PASSWORD": layout.airflow_password,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **{name: value for name, value in _s3_environment(layout).items() if not name.startswith(OPTION_PREFIX)},
        **settings,
    }


def service_environment(layout: Layout, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of every service; `settings` take precedence over our variables."""
    return {
        **shell_environment(layout, {}),
        MARK_VARIABLE: layout.mark,
        "PYTHONUNBUFFERED": "1",
        # Airflow renames its processes; this keeps the mark in their environment.
        "SPT_NOENV": "1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **_airflow_options(layout),
        **settings,
    }


def write_airflow_cfg(layout: Layout, settings: Mapping[str, str]) -> None:
    """Write the stack's options into its airflow.cfg, for commands that know nothing but AIRFLOW_HOME."""
    config = RawConfigParser()
    for name, value in {**_airflow_options(layout), **settings}.items():
        section, _, option = name.removeprefix(OPTION_PREFIX).lower().partition("__")
        if name.startswith(OPTION_PREFIX) and option:
            config.read_dict({section: {option: value.replace("%", "%%")}})
    layout.airflow_home.mkdir(parents=True, exist_ok=True)
    file = layout.airflow_home / "airflow.cfg"
    file.touch(mode=0o600)
    with file.open("w") as writer:
        writer.write(_CFG_HEADER)
        config.write(writer)


def _s3_environment(layout: Layout) -> dict[str, str]:
    return local_s3.s3_environment(layout) if layout.s3_server else {}


def _airflow_options(layout: Layout) -> dict[str, str]:
    options = {
        "CORE__DAGS_FOLDER": str(layout.dags),
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        # Seconds; a file that imports torch or tensorflow can take longer than Airflow's 30 on a busy laptop.
        "CORE__DAGBAG_IMPORT_TIMEOUT": "120",
        "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "150",
        # Seconds; with Airflow's 5 a task fails that starts while the API server starts on a busy laptop.
        "WORKERS__EXECUTION_API_TIMEOUT": "60",
        "CORE__EXECUTION_API_SERVER_URL": f"{layout.airflow_url}/execution/",
        # Airflow's default, the fully qualified name, can take seconds to resolve on a laptop.
        "CORE__HOSTNAME_CALLABLE": "socket.gethostname",
        # Other users of this machine reach the port too.
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{AIRFLOW_USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(layout.airflow_passwords),
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{layout.airflow_home / 'airflow.db'}",
        "API__BASE_URL": layout.airflow_url,
        "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        # Halves the wait between two short tasks, for a few percent of one core.
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.25",
        "ZEN__ARTIFACT_ROOT": str(layout.directory / "artifacts"),
        "ZEN__DEPLOYMENTS_DIR": str(layout.deployments),
        # The DAG files are on this host, and whoever may write them runs code here anyway.
        "ZEN__PLAN_PAGE": "True",
        # Processes that know nothing but AIRFLOW_HOME have the password from here.
        "ZEN__MLFLOW_TRACKING_URI": layout.mlflow_uri,
        **load_or_create_secrets(layout.directory / "secrets.json", _new_secrets),
    }
    s3 = {name: value for name, value in _s3_environment(layout).items() if name.startswith(OPTION_PREFIX)}
    return {**{f"{OPTION_PREFIX}{name}": value for name, value in options.items()}, **s3}


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
        *["--workers", "1", "--allowed-hosts", "localhost:*,127.0.0.1:*", "--app-name", _MLFLOW_APP],
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


DEPLOYMENTS = Service(
    "deployments",
    lambda layout: service_command(layout.deployments),
    lambda layout, _: find_service(layout.deployments),
)
"""Serves what was deployed before the stack ended; the first deployment of a stack starts it itself."""


def services_of(layout: Layout) -> tuple[Service, ...]:
    """Return the services of a stack in the order of their start."""
    deployments = (DEPLOYMENTS,) if has_deployments(layout.deployments) else ()
    return (*((S3,) if layout.s3_server else ()), MLFLOW, *deployments, *AIRFLOW_SERVICES)


def running_services(stack: LocalStack) -> dict[str, Process]:
    """Return the running processes of a stack by service, with a deployment service that a task of it has started."""
    found = stack.running_processes()
    if found and DEPLOYMENTS.name not in found and (address := find_service(stack.layout.deployments)):
        started = Process(address.pid, address.started)
        marked = {process.pid for process in find_marked_processes(stack.layout.mark)}
        found |= {DEPLOYMENTS.name: started} if started.pid in marked else {}
    return found


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


def airflow_token(url: str, password: str) -> str:
    """Return a token of Airflow's API for the user of a local stack."""
    return str(
        request_json("POST", f"{url}/auth/token", {"username": AIRFLOW_USER, "password": password})["access_token"]
    )


@cache
def _client() -> httpx.Client:
    """Return a client that uses no proxy of the environment, because the servers are on the loopback."""
    # A kept connection could belong to a server that has ended.
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(trust_env=False, follow_redirects=True, limits=limits, headers={"Accept": "application/json"})
