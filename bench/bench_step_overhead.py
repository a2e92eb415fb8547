"""Measure what a step adds to a bare `@task` in the same Airflow, with MLflow on and a small input.

Two DAG files run in turns on the local stack (SQLite, LocalExecutor, a real MLflow server), one task at a time: one file
has bare tasks and does not import this package; the other has bare tasks, steps, and steps whose types are of pandas and
scikit-learn, which it imports where they are needed. The first run of the second file computes, the later ones reuse;
Airflow's own durations of tasks are compared, that of a step with that of the bare task before it. Rounds: 6 (`--rounds`), each with 4 tasks of a kind.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from airflow_zen.localstack.stack import start_local_stack, stop_local_stack
from bench.measure import Row, main, row
from tests.servers.airflow_api import AirflowApi

TASKS = 4

PLAIN = """
from datetime import datetime
from airflow.sdk import chain, dag, task


@task
def without(value: dict, n: int) -> dict:
    return {"n": n}


@dag(dag_id="without_us", schedule=None, start_date=datetime(2026, 1, 1))
def without_us():
    chain(*[without.override(task_id=f"without_{n}")({"x": 1}, n) for n in range(TASKS + 1)])


without_us()
"""

STEPS = """
from __future__ import annotations
from datetime import datetime
from typing import TYPE_CHECKING
from airflow.sdk import chain, dag, task
from airflow_zen import ml_step

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.linear_model import LinearRegression


@ml_step
def source(x: int) -> dict:
    return {"x": x}


@ml_step
def step(value: dict, n: int, salt: str) -> dict:
    return {**value, "n": n}


@task
def bare(value: dict, n: int, salt: str) -> dict:
    return {"n": n}


@ml_step
def lazy(n: int) -> LinearRegression:
    import pandas as pd
    from sklearn.linear_model import LinearRegression
    frame = pd.DataFrame({"x": [1.0, 2.0], "y": [1.0, n]})
    return LinearRegression().fit(frame[["x"]], frame["y"])


@dag(dag_id="with_us", schedule=None, start_date=datetime(2026, 1, 1), params={"salt": ""})
def with_us():
    value = source(1)
    tasks = [value]
    for n in range(TASKS + 1):
        salt = "{{ params.salt }}"
        tasks += [kind.override(task_id=f"{kind.function.__name__}_{n}")(value, n, salt) for kind in (bare, step)]
        tasks.append(lazy.override(task_id=f"lazy_{n}")(n))
    chain(*tasks)


with_us()
"""


ROWS = {
    "bare_task_s": "a bare `@task` in a file that imports this package: Airflow's own duration of the task",
    "import_over_bare_task_s": "what that takes longer than in a file that does not",
    "computed_over_bare_task": "a step that computes from a dict to a dict, over such a bare task",
    "hit_over_bare_task": "a step that is reused, over such a bare task",
    "hit_lazy_types_s": "a reused step that returns a model of scikit-learn, which its file imports late",
}


def measure(rounds: int) -> Iterator[Row]:
    """Run both files in turns, and yield the rows."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        dags = Path(directory, "dags")
        dags.mkdir()
        (dags / "without_us.py").write_text(PLAIN.replace("TASKS", str(TASKS)))
        (dags / "with_us.py").write_text(STEPS.replace("TASKS", str(TASKS)))
        stack = start_local_stack(Path(directory, "stack"), dags)
        try:
            yield from _rows(_durations(AirflowApi(stack.layout.airflow_url, stack.layout.airflow_password), rounds))
        finally:
            stop_local_stack(Path(directory, "stack"))


def _durations(api: AirflowApi, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of tasks by kind, and the ratios by row; each odd run of the steps computes, each even one reuses."""
    found: dict[str, list[float]] = defaultdict(list)
    for dag_id in ("without_us", "with_us"):
        api.wait_for_dag(dag_id)
        api.unpause(dag_id)
    for number in range(rounds):
        for dag_id, state in (("without_us", ""), ("with_us", "computed"), ("with_us", "hit")):
            conf = {"salt": str(number)} if dag_id == "with_us" else {}
            run = api.wait_for_dag_run(api.trigger(dag_id, conf=conf), timeout=1200)
            if run.state != "success":
                raise SystemExit(f"The run of {dag_id} ended as {run.state}.")
            durations = {task.task_id: task.duration for task in api.task_instances(run) if task.duration is not None}
            for task_id, seconds in durations.items():
                kind, _, position = task_id.partition("_")
                # The first of a kind in a run is slower: files and bytecode are cold.
                if position in ("", "0") or (kind == "lazy" and state != "hit"):
                    continue
                found[kind].append(seconds)
                if kind == "step" and (bare := durations.get(f"bare_{position}")):
                    found[f"{state}_over_bare_task"].append(seconds / bare)
    return found


def _rows(found: dict[str, list[float]]) -> Iterator[Row]:
    bare, without = row("bare_task_s", found["bare"], "s"), row("", found["without"], "s")
    yield bare
    yield Row("import_over_bare_task_s", bare.value - without.value, "s", bare.spread + without.spread)
    for name in ("computed_over_bare_task", "hit_over_bare_task"):
        yield row(name, found[name], "times")
    yield row("hit_lazy_types_s", found["lazy"], "s")


if __name__ == "__main__":
    main(__doc__, measure, rounds=6)
