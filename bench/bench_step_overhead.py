"""Measure what `@ml_step` adds to a bare `@task` in the same Airflow, with MLflow on and a small input.

Runs one DAG whose bare tasks and steps take turns, one at a time, on the local stack (SQLite,
LocalExecutor, a real MLflow server), then runs it again so that every step is a cache hit. Prints the
median of Airflow's own task durations for each kind, and the differences. Pairs: 25 (`--pairs`).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from airflow_zen.localstack.stack import start_local_stack, stop_local_stack

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.servers.airflow_api import AirflowApi, DagRun

DAG = """
from datetime import datetime
from airflow.sdk import chain, dag, task
from airflow_zen import ml_step


@task
def seed():
    return 1


@ml_step
def source(x: int) -> dict:
    return {{"x": x}}


@ml_step
def step(value: dict, n: int) -> dict:
    return {{**value, "n": n}}


@task
def bare(value: dict, n: int) -> dict:
    return {{"n": n}}


@dag(dag_id="overhead", schedule=None, start_date=datetime(2026, 1, 1))
def overhead():
    value = source(1)
    before = value
    for n in range({pairs}):
        for kind in (bare, step):
            after = kind.override(task_id=f"{{kind.function.__name__}}_{{n}}")(value, n)
            chain(before, after)
            before = after


overhead()
"""


def durations(api: AirflowApi, run: DagRun) -> dict[str, list[float]]:
    """Return the seconds of every task instance, by kind, without the first pair (its imports are cold)."""
    found: dict[str, list[float]] = {"bare": [], "step": []}
    for task in api.task_instances(run):
        kind, _, number = task.task_id.partition("_")
        if kind in found and number != "0" and task.duration is not None:
            found[kind].append(task.duration)
    return found


def main() -> None:
    """Run the DAG twice and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pairs", type=int, default=25)
    pairs = options.parse_args().pairs
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        dags = Path(directory, "dags")
        dags.mkdir()
        (dags / "overhead.py").write_text(DAG.format(pairs=pairs))
        stack = start_local_stack(Path(directory, "stack"), dags)
        try:
            report(AirflowApi(stack.layout.airflow_url, stack.layout.airflow_password))
        finally:
            stop_local_stack(Path(directory, "stack"))


def report(api: AirflowApi) -> None:
    """Trigger both runs and compare."""
    api.wait_for_dag("overhead")
    api.unpause("overhead")
    print(f"{'run':8} {'bare @task':>12} {'@ml_step':>12} {'difference':>12}   (median seconds)")
    for name in ("computed", "cached"):
        run = api.wait_for_dag_run(api.trigger("overhead"), timeout=1200)
        if run.state != "success":
            raise SystemExit(f"The {name} run ended as {run.state}.")
        found = {kind: statistics.median(seconds) for kind, seconds in durations(api, run).items()}
        difference = found["step"] - found["bare"]
        print(f"{name:8} {found['bare']:12.3f} {found['step']:12.3f} {difference:12.3f}")


if __name__ == "__main__":
    main()
