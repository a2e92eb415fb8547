"""Promises about imports: parsing a DAG file and starting a task load few modules, and no heavy library."""

import json
import os
import subprocess
import sys

from tests.airflow_version import AIRFLOW_VERSION

HEAVY_LIBRARIES = {
    "fsspec", "httpx", "mlflow", "numpy", "obstore", "pandas", "polars", "pyarrow", "requests", "rich", "s3fs", "sklearn",
    "torch",
}  # fmt: skip
if AIRFLOW_VERSION < (3, 2):
    # Its log writes tracebacks with it.
    HEAVY_LIBRARIES.remove("rich")

_REPORT = """
import json
print(json.dumps(sorted(set(sys.modules) - before)))
"""

_PARSE = """
import sys
import airflow.sdk
before = set(sys.modules)
from airflow_zen import ml_step
"""

_PLUGIN = """
import sys
import airflow.plugins_manager
before = set(sys.modules)
from airflow_zen.plugin import ZenPlugin
"""

_TASK = """
import sys
import airflow.sdk
import airflow.sdk.execution_time.task_runner
import structlog
import tests.harness
from airflow_zen.plugin import ZenPlugin
before = set(sys.modules)
from airflow.sdk import dag
from airflow_zen import ml_step

@ml_step
def increment(number: int) -> int:
    return number + 1

@dag(schedule=None)
def pipeline():
    increment(1)

run = tests.harness.run_dag(pipeline())
assert run.states == {"increment": "success"}, run.tasks
"""

_FORKED_TASK = """
import sys
import airflow.sdk.execution_time.task_runner
import structlog
import tests.harness
from airflow.jobs.job import Job
for command, are_loaded in (("api-server", (False, False)), ("dag-processor", (True, False)), ("scheduler", (True, True))):
    sys.argv = ["airflow", command]
    Job()
    names = "airflow_zen.decorators.ml_step", "airflow_zen.operators.execute"
    assert tuple(name in sys.modules for name in names) == are_loaded, command
before = set(sys.modules)
""" + _TASK[_TASK.index("from airflow.sdk import dag") :]

_HIT = """
import sys
import airflow.sdk
import airflow.sdk.execution_time.task_runner
import structlog
import tests.harness
from airflow_zen.plugin import ZenPlugin
before = set(sys.modules)
from typing import TYPE_CHECKING
from airflow.sdk import dag
from airflow_zen import ml_step

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.linear_model import LinearRegression

@ml_step
def load(rows: int) -> "pd.DataFrame":
    import pandas as pd
    return pd.DataFrame({"x": range(rows), "y": range(rows)})

@ml_step
def train(frame: "pd.DataFrame") -> "LinearRegression":
    from sklearn.linear_model import LinearRegression
    return LinearRegression().fit(frame[["x"]], frame["y"])

@dag(schedule=None)
def pipeline():
    train(load(3))

run = tests.harness.run_dag(pipeline())
assert set(run.states.values()) == {"success"}, run.tasks
"""


def modules_loaded_by(script, folder, **environment):
    """Return the modules that a script loads in a fresh process after it sets `before`."""
    file = folder / "script.py"
    file.write_text(script + _REPORT)
    environment = {**os.environ, **environment}
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run([sys.executable, str(file)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def ours(modules):
    # Airflow itself loads the package and its provider info, at another time in each release.
    return [name for name in modules if name.startswith("airflow_zen.") and name != "airflow_zen.get_provider_info"]


def heavy(modules):
    return {name.partition(".")[0] for name in modules} & HEAVY_LIBRARIES


def test_a_dag_file_loads_few_modules(tmp_path):
    """`from airflow_zen import ml_step` loads at most 25 of our modules, and no heavy library."""
    loaded = modules_loaded_by(_PARSE, tmp_path)
    assert len(ours(loaded)) <= 25, ours(loaded)
    assert heavy(loaded) == set()


def test_a_task_loads_few_modules(tmp_path):
    """Without MLflow, a task that computes from int to int loads at most 76 of our modules, and no heavy library."""
    loaded = modules_loaded_by(_TASK, tmp_path, AIRFLOW__ZEN__ARTIFACT_ROOT=str(tmp_path / "root"))
    assert len(ours(loaded)) <= 76, ours(loaded)
    assert heavy(loaded) == set()


def test_a_fork_of_the_scheduler_loads_few_modules(tmp_path):
    """A task that a LocalExecutor forks from the scheduler loads at most 3 of our modules, and no heavy library.

    The DAG processor loads only what DAG files import.
    """
    loaded = modules_loaded_by(_FORKED_TASK, tmp_path, AIRFLOW__ZEN__ARTIFACT_ROOT=str(tmp_path / "root"))
    assert len(ours(loaded)) <= 3, ours(loaded)
    assert heavy(loaded) == set()


def test_a_hit_imports_none_of_the_libraries_of_its_types(tmp_path):
    """A step that is reused imports neither pandas nor scikit-learn for types that its file imports where it needs them."""
    computed, reused = (
        modules_loaded_by(_HIT, tmp_path, AIRFLOW__ZEN__ARTIFACT_ROOT=str(tmp_path / "root")) for _ in range(2)
    )
    assert {"pandas", "sklearn"} <= heavy(computed)
    assert heavy(reused) == set()
    assert len(ours(reused)) <= 62, ours(reused)


def test_the_plugin_loads_few_modules(tmp_path):
    """The plugin, which the scheduler and the API server load, loads at most 11 of our modules, and no heavy library."""
    loaded = modules_loaded_by(_PLUGIN, tmp_path)
    assert len(ours(loaded)) <= 11, ours(loaded)
    assert heavy(loaded) == set()
