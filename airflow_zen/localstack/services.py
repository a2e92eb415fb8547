"""The parts of a local stack: how each is started, what it is told, and how it says that it is ready."""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_zen.localstack import s3 as local_s3
from airflow_zen.localstack.airflow_api import AirflowApi, HttpError, request_json
from airflow_zen.localstack.processes import MARK_VARIABLE, Process

if TYPE_CHECKING:
    from airflow_zen.localstack.state import Layout

AIRFLOW_COMMAND = [sys.executable, "-m", "airflow"]
MIGRATE_COMMAND = [*AIRFLOW_COMMAND, "db", "migrate"]
# Settings of the machine's own Airflow and MLflow are not meant for this stack; AIRFLOW_CONN_* and AIRFLOW_VAR_* are.
EXCLUDED_PREFIXES = ("AIRFLOW__", "AIRFLOW_HOME", "AIRFLOW_CONFIG", "MLFLOW_")


@dataclass(frozen=True)
class Service:
    """One server process of the stack."""

    name: str
    command: Callable[[Layout], list[str]]
    ready: Callable[[Layout, Process], bool]


def service_environment(layout: Layout, settings: Mapping[str, str]) -> dict[str, str]:
    """Give what every part is told; `settings` are environment variables that go before ours."""
    # Keys, profiles and endpoints of the machine's own S3 would be mixed with those of the stack's.
    excluded = (*EXCLUDED_PREFIXES, "AWS_") if layout.s3_server else EXCLUDED_PREFIXES
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(excluded)}
    search_path = f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', os.defpath)}"
    loopback = ",".join(filter(None, [inherited.get("NO_PROXY"), "127.0.0.1", "localhost"]))
    process = {
        MARK_VARIABLE: layout.mark,
        "PATH": search_path,
        "NO_PROXY": loopback,
        "no_proxy": loopback,
        "PYTHONUNBUFFERED": "1",
        # Airflow renames its processes; this keeps the rename from overwriting the mark.
        "SPT_NOENV": "1",
    }
    return {
        **inherited,
        **process,
        **_airflow_settings(layout),
        **_mlflow_settings(),
        **_s3_settings(layout),
        **settings,
    }


def _airflow_settings(layout: Layout) -> dict[str, str]:
    home = layout.directory / "airflow"
    options = {
        "CORE__DAGS_FOLDER": str(layout.dags),
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTION_API_SERVER_URL": f"{layout.airflow_url}/execution/",
        # The fully qualified name, Airflow's default, can take seconds to resolve on a laptop.
        "CORE__HOSTNAME_CALLABLE": "socket.gethostname",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "API__BASE_URL": layout.airflow_url,
        "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        # Half the wait between two short tasks, for a few percent of one core.
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.25",
        "ZEN__ARTIFACT_ROOT": str(layout.directory / "artifacts"),
        "ZEN__MLFLOW_TRACKING_URI": layout.mlflow_url,
        **_load_or_create_secrets(layout.directory / "secrets.json"),
    }
    return {"AIRFLOW_HOME": str(home), **{f"AIRFLOW__{name}": value for name, value in options.items()}}


def _mlflow_settings() -> dict[str, str]:
    return {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def _s3_settings(layout: Layout) -> dict[str, str]:
    return local_s3.s3_environment(layout) if layout.s3_server else {}


def _load_or_create_secrets(file: Path) -> dict[str, str]:
    """Give the keys of this stack, made when it is first started and readable by its owner only."""
    if not file.exists():
        created = {
            "CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            "API__SECRET_KEY": secrets.token_urlsafe(48),
            "API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        }
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
            json.dump(created, output)
    stored: dict[str, str] = json.loads(file.read_text())
    return stored


def _mlflow_command(layout: Layout) -> list[str]:
    """Serve MLflow from one worker: its default of four, with job consumers, takes a dozen processes."""
    state = layout.directory / "mlflow"
    return [
        *[sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(layout.mlflow_port)],
        *["--backend-store-uri", f"sqlite:///{state / 'mlflow.db'}"],
        *["--artifacts-destination", str(state / "artifacts")],
        *["--workers", "1", "--allowed-hosts", "localhost:*,127.0.0.1:*"],
    ]


def _is_mlflow_ready(layout: Layout, _process: Process) -> bool:
    """Tell whether MLflow answers."""
    try:
        request_json("GET", f"{layout.mlflow_url}/health", timeout=2)
    except HttpError:
        return False
    return True


def _airflow_command(*arguments: str) -> Callable[[Layout], list[str]]:
    return lambda _layout: [*AIRFLOW_COMMAND, *arguments]


def _api_server_command(layout: Layout) -> list[str]:
    where = ["--host", "127.0.0.1", "--port", str(layout.airflow_port)]
    return [*AIRFLOW_COMMAND, "api-server", "--workers", "1", *where]


def _heartbeat_check(component: str) -> Callable[[Layout, Process], bool]:
    """Readiness by a heartbeat later than the start: an earlier one is of a process that is gone."""

    def ready(layout: Layout, process: Process) -> bool:
        try:
            state = AirflowApi(layout.airflow_url).health().get(component) or {}
        except HttpError:
            return False
        heartbeat = state.get(f"latest_{component}_heartbeat")
        return heartbeat is not None and datetime.fromisoformat(heartbeat).timestamp() > process.started

    return ready


def _is_api_server_ready(layout: Layout, _process: Process) -> bool:
    # The API that tasks talk to is built at its first request; asked for here, the first task need not wait for it.
    try:
        request_json("GET", f"{layout.airflow_url}/execution/health")
        return bool(AirflowApi(layout.airflow_url).health()["metadatabase"]["status"] == "healthy")
    except HttpError:
        return False


# The API server first: it takes longest, and tasks need it.
AIRFLOW_SERVICES = (
    Service("api-server", _api_server_command, _is_api_server_ready),
    Service("dag-processor", _airflow_command("dag-processor"), _heartbeat_check("dag_processor")),
    Service("scheduler", _airflow_command("scheduler", "--skip-serve-logs"), _heartbeat_check("scheduler")),
    Service("triggerer", _airflow_command("triggerer", "--skip-serve-logs"), _heartbeat_check("triggerer")),
)
MLFLOW = Service("mlflow", _mlflow_command, _is_mlflow_ready)
S3 = Service("s3", local_s3.server_command, lambda layout, _process: local_s3.is_ready(layout))


def services_of(layout: Layout) -> tuple[Service, ...]:
    """Give the parts of a stack, in the order in which they are started."""
    return (*((S3,) if layout.s3_server else ()), MLFLOW, *AIRFLOW_SERVICES)
