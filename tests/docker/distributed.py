"""Run the flight example and 200 mapped steps on two Celery workers, kill one of them, and report the result."""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.docker.compose import DOCKER, REPOSITORY
from tests.docker.loss import ScenarioResult, WorkerLossScenario, count_mlflow_runs, expected
from tests.docker.stack import missing, stack
from tests.docker.up import RunningServices
from tests.servers.airflow_api import AirflowApi

WORKERS = {"worker-a": "default,sums", "worker-b": "default"}
# Short, for nobody wants to wait; docs/distributed.md says what a deployment sets.
SHORT_TIMEOUTS = {"LOST_AFTER": "30", "QUEUED_AT_MOST": "90"}
FREQUENT_CHECKS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
    # Little more than there are slots: what waits in Redis waits no longer than a task may be queued.
    "AIRFLOW__CORE__PARALLELISM": "8",
}


def run_scenarios(running: RunningServices, secrets: Path, count: int, timeout: float) -> bool:
    """Run the experiment on a running stack; return whether the result is correct."""
    api = AirflowApi(running.paths.url("api-server"), (secrets / "admin_password").read_text())
    flights_succeeded = _run_flight_delay(running, api, timeout)
    scenario = WorkerLossScenario(running, secrets, api, "worker-b").run(count, timeout)
    return _print_result(scenario, count_mlflow_runs(running, scenario.run, timeout=240)) and flights_succeeded


def _run_flight_delay(running: RunningServices, api: AirflowApi, timeout: float) -> bool:
    api.wait_for_dag("flight_delay")
    api.unpause("flight_delay")
    begun = time.monotonic()
    run = api.wait_for_dag_run(api.trigger("flight_delay"), timeout)
    tasks = api.task_instances(run)
    print(f"flight_delay: {run.state}, {len(tasks)} tasks, {time.monotonic() - begun:.0f} s")
    print(f"  in MLflow {count_mlflow_runs(running, run, timeout=240)}")
    return run.state == "success"


def _print_result(scenario: ScenarioResult, lineage: dict[str, int]) -> bool:
    loss, count, right = scenario.loss, scenario.count, expected(scenario.count)
    lost = [told for told in scenario.events if told.event == "called" and told.worker == loss.worker]
    print(f"{scenario.run.dag_id}: {scenario.run.state}, {len(scenario.tasks)} tasks, {scenario.seconds:.0f} s")
    print(
        f"  killed {loss.worker}, {loss.processes} processes, with {len(loss.remembered)} of {count} parts remembered"
    )
    print(
        f"  calls by worker {scenario.shares}; the last of {loss.worker} {loss.at - lost[-1].at:.1f} s before it died"
    )
    print(f"  brought back {[(task.map_index, task.try_number) for task in scenario.retried]}")
    print(f"  of these found stored {scenario.hits}, computed again {scenario.computed_again}")
    print(f"  called although remembered {scenario.wasted}")
    print(f"  result {dict(scenario.result)}, in plain Python {right}")
    print(f"  in MLflow {lineage}")
    return scenario.run.state == "success" and scenario.result == right and not scenario.wasted


@contextmanager
def _working_directory(directory: Path | None) -> Iterator[Path]:
    """Yield the given directory, or a temporary one."""
    if directory:
        directory.mkdir(parents=True)
        yield directory.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="zen-distributed-") as place:
        yield Path(place)


def main() -> int:
    """Start everything, run, stop everything; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, choices=(30, 200), default=200, help="mapped instances")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for each DAG run")
    parser.add_argument("--directory", type=Path, help="a new directory that keeps the logs")
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if lacking := missing():
        print(f"No {', '.join(lacking)} on the PATH: scripts/test-parts.sh installs Redis; install PostgreSQL.")
        return 1
    with _working_directory(options.directory) as place:
        secrets, dags = place / "secrets", place / "dags"
        subprocess.run([DOCKER / "secrets.sh", secrets], check=True, capture_output=True)
        dags.mkdir()
        (place / "stack").mkdir()
        shutil.copy(REPOSITORY / "dags_examples" / "flight_delay.py", dags)
        shutil.copy(Path(__file__).parent / "dags" / "parts.py", dags)
        begun = time.monotonic()
        with stack(
            place / "stack", secrets, dags, WORKERS, {"DAGS": str(dags), **SHORT_TIMEOUTS}, FREQUENT_CHECKS
        ) as running:
            print(f"up after {time.monotonic() - begun:.0f} s")
            return 0 if run_scenarios(running, secrets, options.parts, options.timeout) else 1


if __name__ == "__main__":
    sys.exit(main())
