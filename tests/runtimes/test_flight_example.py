"""The trainer of `dags_examples/flight_delay.py` in each runtime that has the same libraries."""

import sys
from pathlib import Path

import pytest
from airflow.sdk import dag

from airflow_zen.runtimes import InProcess, Python
from tests.harness import run_dag
from tests.runtimes.containers import in_docker

EXAMPLE = (Path(__file__).parents[2] / "dags_examples/flight_delay.py").read_text()

pytestmark = [pytest.mark.server, pytest.mark.slow]


def test_the_model_is_the_same_in_each_runtime(load_dag_file, python_engine, root):
    """The model has the same digest wherever the step runs that trains it."""
    flights = load_dag_file(EXAMPLE, "flight_delay")
    runtimes = {
        "in_process": InProcess(),
        "python": Python(sys.executable),
        "docker": in_docker(python_engine, sys.executable),
    }

    @dag(dag_id="trainers", schedule=None)
    def trainers():
        table = flights.features(flights.split(flights.ingest(), test_from="2013-02-01").train)
        for name, runtime in runtimes.items():
            flights.train.override(task_id=name, runtime=runtime, cache=False)(table, max_iter=5)

    run = run_dag(trainers())
    assert set(run.states.values()) == {"success"}, run.tasks[-1].error
    models = [run.xcom(name) for name in runtimes]
    assert models[0]["type"].endswith("HistGradientBoostingClassifier")
    assert len({model["digest"] for model in models}) == 1
