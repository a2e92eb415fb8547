"""One deployment for all tests of this folder that ask for it: Airflow, MLflow, PostgreSQL and an S3 store.

Not on SQLite: Airflow's API refuses backfills, and whatever is asked beside one, where the database locks as a whole.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_zen.localstack import s3 as local_s3
from airflow_zen.localstack.metadata_database import DATABASE_VARIABLE
from airflow_zen.localstack.services import request_json, service_environment
from airflow_zen.localstack.stack import start_local_stack, stop_local_stack
from airflow_zen.localstack.state import AIRFLOW_USER, Layout, read_local_stack
from tests.servers.airflow_api import AirflowApi, DagRun
from tests.servers.postgres import missing, postgres
from tests.servers.process import memory_directory
from tests.servers.s3 import S3Server


@dataclass
class Deployment:
    """Airflow and MLflow over one S3 bucket, and the two runs of the DAG `churn`."""

    airflow: AirflowApi
    mlflow_uri: str
    layout: Layout
    environment: dict[str, str]
    database: str
    first: DagRun
    second: DagRun

    @property
    def s3(self) -> S3Server:
        key = local_s3.load_or_create_credentials(self.layout.directory)
        return S3Server(self.layout.s3_url, key.access_key, key.secret_key, local_s3.BUCKET)

    def tasks(self, run: DagRun) -> dict[tuple[str, int], Any]:
        return {(task.task_id, task.map_index): task for task in self.airflow.task_instances(run)}

    def run_zen_command(self, *words: str) -> str:
        """Call `airflow zen …` beside this Airflow; give what it prints."""
        from tests.airflow_version import AIRFLOW_VERSION

        program = ["airflow", "zen"] if AIRFLOW_VERSION >= (3, 2) else ["airflow_zen"]
        command = [sys.executable, "-m", *program, *words]
        variables = service_environment(self.layout, {**self.environment, DATABASE_VARIABLE: self.database})
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout

    def backfill(self, dag_id: str, first: str, last: str) -> int:
        """Run a DAG for each day from first to last; give the backfill's number once all have ended."""
        body = {"dag_id": dag_id, "from_date": first, "to_date": last, "reprocess_behavior": "completed"}
        number = int(request_json("POST", f"{self.airflow.url}/api/v2/backfills", body)["id"])
        deadline = time.monotonic() + 600
        while request_json("GET", f"{self.airflow.url}/api/v2/backfills/{number}")["completed_at"] is None:
            assert time.monotonic() < deadline, "the backfill did not end"
            self.restart_dead_scheduler()
            time.sleep(0.5)
        return number

    def restart_dead_scheduler(self) -> None:
        """Start the scheduler again where it has ended: Airflow 3.3.2's does, with ObjectDeletedError, beside a backfill."""
        if "scheduler" not in read_local_stack(self.layout.directory).running_processes():
            start_local_stack(
                self.layout.directory, self.layout.dags, self.environment, s3=True, database=self.database
            )

    def xcom(self, run: DagRun, task_id: str, map_index: int = -1, key: str = "return_value") -> Any:
        return self.airflow.xcom(run, self.tasks(run)[task_id, map_index], key)


@pytest.fixture(scope="package")
def database():
    if missing_programs := missing():
        reason = f"no {', '.join(missing_programs)} on the PATH: install PostgreSQL"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    with postgres() as url:
        yield url


@pytest.fixture(scope="package")
def deployment(database):
    directory = memory_directory("deployment-")
    settings = {
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(Path(__file__).parent / "plugins"),
        # Nobody changes the DAG files: each is parsed once.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "3600",
        # Airflow's own. A stack on a laptop looks for work four times a second, and takes a tenth of a core for it.
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1",
    }
    stack = start_local_stack(directory, Path(__file__).parent / "dags", settings, s3=True, database=database)
    patch = pytest.MonkeyPatch()
    patch.setenv("MLFLOW_TRACKING_USERNAME", AIRFLOW_USER)
    patch.setenv("MLFLOW_TRACKING_PASSWORD", stack.layout.airflow_password)
    try:
        api = AirflowApi(stack.layout.airflow_url)
        for dag_id in (
            "churn",
            "broken",
            "daily",
            "produce",
            "consume",
            "again",
            "catchup",
            "train_delay",
            "predict_delay",
        ):
            api.wait_for_dag(dag_id, timeout=300)
            api.unpause(dag_id)
        first = api.wait_for_dag_run(api.trigger("churn"))
        second = api.wait_for_dag_run(api.trigger("churn"))
        yield Deployment(api, stack.layout.mlflow_url, stack.layout, settings, database, first, second)
    finally:
        patch.undo()
        stop_local_stack(directory)
