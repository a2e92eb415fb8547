"""Promises of `airflow_zen.operators.execute`: an installed OpenLineage provider emits what steps read and made."""

import json
import os
import subprocess
import sys

import pytest

# A process of its own: OpenLineage reads its settings, and Airflow its plugins, once.
_DAG = """
from datetime import datetime
from airflow.sdk import DAG
from airflow_zen import ml_step
from tests.harness import run_dag

@ml_step
def load(rows: int) -> list:
    return list(range(rows))

@ml_step
def total(values: list) -> int:
    return sum(values)

@ml_step
def fails(values: list) -> int:
    raise ValueError("no")

with DAG("emitted", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
    values = load(3)
    total(values) >> fails(values)
run = run_dag(dag)
print(run.states, run.xcom("load")["uri"])
"""


def run_in_process(tmp_path, **environment):
    """Run the DAG in a process of its own; return what it printed."""
    environment = {
        **os.environ,
        "AIRFLOW__ZEN__ARTIFACT_ROOT": str(tmp_path / "root"),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        **environment,
    }
    done = subprocess.run([sys.executable, "-c", _DAG], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def openlineage_events(tmp_path):
    """Run the DAG with OpenLineage writing events to a file; return the datasets of each task's last event."""
    events = tmp_path / "events.json"
    transport = {"type": "file", "log_file_path": str(events), "append": True}
    printed = run_in_process(
        tmp_path,
        AIRFLOW__OPENLINEAGE__TRANSPORT=json.dumps(transport),
        AIRFLOW__OPENLINEAGE__EXECUTE_IN_THREAD="True",
    )
    written = [json.loads(line) for line in events.read_text().splitlines()]
    ends = {e["job"]["name"]: e for e in written if e["eventType"] in {"COMPLETE", "FAIL"}}

    def names(task, side):
        return [dataset["name"] for dataset in ends[f"emitted.{task}"][side]]

    return names, printed.split()[-1]


@pytest.mark.airflow
def test_openlineage_emits_inputs_and_outputs(openlineage_events):
    """The provider's event of a step has the addresses of its inputs and outputs; that of a failed step its inputs."""
    names, loaded = openlineage_events
    assert (names("load", "inputs"), names("load", "outputs")) == ([], [loaded])
    assert names("total", "inputs") == [loaded]
    # One process runs all tasks here, so the collector still has what the first one told it.
    assert len({*names("total", "outputs")} - {loaded}) == 1
    assert {*names("fails", "inputs")} == {loaded}


_BROKEN_PLUGIN = """
import sys
from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin
try:
    from airflow.sdk import lineage
except ImportError:  # Airflow 3.1
    from airflow.lineage import hook as lineage


def fail(what):
    print("broken", what)
    raise RuntimeError(what)


class BrokenCollector(lineage.HookLineageCollector):
    def add_input_asset(self, *args, **kwargs):
        fail("input")

    def add_output_asset(self, *args, **kwargs):
        fail("output")


class BrokenListener:
    @hookimpl
    def on_task_instance_success(self, previous_state, task_instance):
        fail("listener")


# What Airflow makes its collector of, as soon as a plugin reads lineage.
lineage.HookLineageCollector = BrokenCollector


class BrokenPlugin(AirflowPlugin):
    name = "broken"
    hook_lineage_readers = [lineage.HookLineageReader]
    listeners = [BrokenListener()]
"""


@pytest.mark.airflow
def test_a_failing_listener_fails_no_task(tmp_path):
    """A plugin whose lineage collector and listener raise in the task process changes no task's outcome."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "broken.py").write_text(_BROKEN_PLUGIN)
    disabled = {"AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins), "AIRFLOW__OPENLINEAGE__DISABLED": "True"}
    printed = run_in_process(tmp_path, **disabled)
    assert {line for line in printed.splitlines() if line.startswith("broken")} == {
        "broken input", "broken output", "broken listener",
    }  # fmt: skip
    assert "{'load': 'success', 'total': 'success', 'fails': 'failed'}" in printed


def test_without_a_reader_no_provider_is_loaded():
    """Without a plugin that reads lineage no collector is created, which would load every provider's assets."""
    script = """
import sys
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.operators import execute
execute._has_lineage_readers = lambda: False
execute.report_lineage("add_input_asset", object(), [ArtifactRef("a" * 64, "s3://b/x", "e@1", "t", 1)])
print("airflow.sdk.lineage" in sys.modules, "boto3" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split()[-2:] == ["False", "False"], done.stderr[-3000:]
