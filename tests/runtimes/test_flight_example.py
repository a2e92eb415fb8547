"""The trainer of `dags_examples/flight_delay.py` in each runtime."""

from importlib.metadata import version
from pathlib import Path

import pytest
from airflow.sdk import dag

from airflow_zen.runtimes import InProcess, Python, Virtualenv
from tests.harness import run_dag
from tests.runtimes.conftest import SMALL, make_environment
from tests.runtimes.containers import in_docker
from tests.runtimes.pods import in_pods

EXAMPLE = (Path(__file__).parents[2] / "dags_examples/flight_delay.py").read_text()
# Not the versions beside Airflow, except of the library whose estimator is compared.
LIBRARIES = ["fsspec", "numpy<2.4", "pandas<3", "pyarrow<24", f"scikit-learn=={version('scikit-learn')}", "skops"]

pytestmark = [pytest.mark.server, pytest.mark.slow]


def test_the_model_is_the_same_in_each_runtime(load_dag_file, python_engine, root, request):
    """The model has one digest, wherever the step runs that trains it, under other releases of pandas, numpy and pyarrow."""
    flights = load_dag_file(EXAMPLE, "flight_delay")
    other = make_environment(*SMALL, *LIBRARIES)
    runtimes = {
        "in_process": InProcess(),
        "virtualenv": Virtualenv(LIBRARIES),
        "python": Python(other),
        "docker": in_docker(python_engine, other),
        "kubernetes": in_pods(request, other),
    }

    @dag(dag_id="trainers", schedule=None)
    def trainers():
        table = flights.features(flights.split(flights.ingest(), test_from="2013-01-15").train)
        for name, runtime in runtimes.items():
            flights.train.override(task_id=name, runtime=runtime, cache=False)(table, max_iter=5)

    run = run_dag(trainers())
    assert set(run.states.values()) == {"success"}, run.tasks[-1].error
    models = {name: run.xcom(name) for name in runtimes}
    assert models["in_process"]["type"].endswith("HistGradientBoostingClassifier")
    assert {name: model["digest"] for name, model in models.items()} == dict.fromkeys(
        runtimes, models["in_process"]["digest"]
    )
