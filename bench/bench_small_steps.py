"""Measure many small steps: mapped trials in batches against one task each, and ten fused steps against ten tasks.

The DAGs run on the local stack (SQLite, LocalExecutor, a real MLflow server), one after the other. Of each DAG run the time
from trigger to end is taken, and the processor time of all processes of the stack. Trials: 2,000 (`--rounds`), 50 in a batch.
Where each trial is a task there are 100; all 2,000 (`--tasks 2000`) take 20 minutes. Times are compared for each trial.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic

import psutil

from airflow_zen.localstack.processes import MARK_VARIABLE
from airflow_zen.localstack.stack import start_local_stack, stop_local_stack
from bench.measure import Row, main
from tests.servers.airflow_api import AirflowApi

DAGS = """
from datetime import datetime
from airflow.sdk import dag
from airflow_zen import fused, ml_step


@ml_step
def trial(x: int, of: str) -> float:
    return x / 7


@ml_step
def count(trials: list) -> int:
    return len(trials)


@ml_step
def grow(x: int) -> int:
    return x + 1


def chain(x):
    for _ in range(10):
        x = grow(x)


@dag(schedule=None, start_date=datetime(2026, 1, 1), max_active_tasks=16)
def batched():
    count(trial.partial(of="batched").expand(x=list(range(TRIALS)), batch=50))


@dag(schedule=None, start_date=datetime(2026, 1, 1), max_active_tasks=16)
def unbatched():
    count(trial.partial(of="unbatched").expand(x=list(range(TASKS))))


@dag(schedule=None, start_date=datetime(2026, 1, 1))
def fused_chain():
    with fused("chain"):
        chain(0)


@dag(schedule=None, start_date=datetime(2026, 1, 1))
def chain_of_tasks():
    chain(1000)


for define in (batched, unbatched, fused_chain, chain_of_tasks):
    define()
"""

ROWS = {
    "batched_trials_s": "2,000 tiny mapped trials in batches of 50, from trigger to end of the DAG run",
    "batched_trials_over_tasks": "that over one task for each trial, for each trial",
    "batched_trials_cpu_over_tasks": "the same of the processor time of Airflow and MLflow",
    "fused_chain_s": "ten tiny steps in a fused group, from trigger to end of the DAG run",
    "fused_chain_over_tasks": "that over ten tasks",
    "fused_chain_cpu_over_tasks": "the same of the processor time of Airflow and MLflow",
}
_TIMEOUT = 6 * 3600


def measure(trials: int, tasks: int = 100) -> Iterator[Row]:
    """Run the DAGs, and yield the rows."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        dags = Path(directory, "dags")
        dags.mkdir()
        tasks = min(trials, tasks)
        (dags / "small_steps.py").write_text(DAGS.replace("TRIALS", str(trials)).replace("TASKS", str(tasks)))
        settings = {"AIRFLOW__CORE__MAX_MAP_LENGTH": str(max(trials, tasks))}
        stack = start_local_stack(Path(directory, "stack"), dags, settings, timeout=900)
        try:
            api = AirflowApi(stack.layout.airflow_url, stack.layout.airflow_password)
            for ours, other, name, share in (
                ("fused_chain", "chain_of_tasks", "fused_chain", 1),
                ("batched", "unbatched", "batched_trials", tasks / trials),
            ):
                seconds, cpu = _run(api, ours, stack.layout.mark)
                print(f"{ours}: {seconds:.1f} s, {cpu:.1f} s of processor time", flush=True)
                other_seconds, other_cpu = _run(api, other, stack.layout.mark)
                print(f"{other}: {other_seconds:.1f} s, {other_cpu:.1f} s of processor time", flush=True)
                yield Row(f"{name}_s", seconds, "s")
                yield Row(f"{name}_over_tasks", share * seconds / other_seconds, "times")
                yield Row(f"{name}_cpu_over_tasks", share * cpu / other_cpu, "times")
        finally:
            stop_local_stack(Path(directory, "stack"))


def _run(api: AirflowApi, dag_id: str, mark: str) -> tuple[float, float]:
    """Return the seconds of a DAG run, and the processor seconds of the stack meanwhile."""
    api.wait_for_dag(dag_id)
    api.unpause(dag_id)
    cpu, begun = _processor_seconds(mark), monotonic()
    run = api.wait_for_dag_run(api.trigger(dag_id), timeout=_TIMEOUT)
    if run.state != "success":
        raise SystemExit(f"The run of {dag_id} ended as {run.state}.")
    return monotonic() - begun, _processor_seconds(mark) - cpu


def _processor_seconds(mark: str) -> float:
    """Return the processor time of the stack's processes, with their ended children."""
    total = 0.0
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK_VARIABLE) == mark:
                total += sum(process.cpu_times()[:4])
    return total


if __name__ == "__main__":
    main(__doc__, measure, rounds=2000, tasks=100)
