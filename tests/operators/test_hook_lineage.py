"""Promises of `airflow_zen.operators.hook_lineage`: an installed OpenLineage provider emits what steps read and made."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.operators import hook_lineage

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


@pytest.fixture
def openlineage_events(tmp_path):
    """Run the DAG with OpenLineage writing events to a file; give the last event of each task with datasets."""
    events = tmp_path / "events.json"
    transport = {"type": "file", "log_file_path": str(events), "append": True}
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path.cwd()),
        "AIRFLOW__ZEN__ARTIFACT_ROOT": str(tmp_path / "root"),
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "AIRFLOW__OPENLINEAGE__EXECUTE_IN_THREAD": "True",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    }
    done = subprocess.run([sys.executable, "-c", _DAG], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    written = [json.loads(line) for line in events.read_text().splitlines()]
    ends = {e["job"]["name"]: e for e in written if e["eventType"] in {"COMPLETE", "FAIL"}}

    def names(task, side):
        return [dataset["name"] for dataset in ends[f"emitted.{task}"][side]]

    return names, done.stdout.split()[-1]


@pytest.mark.airflow
def test_openlineage_emits_inputs_and_outputs(openlineage_events):
    """The real provider's event of a step names what it read and made by address; that of a failed one what it read."""
    names, loaded = openlineage_events
    assert (names("load", "inputs"), names("load", "outputs")) == ([], [loaded])
    assert names("total", "inputs") == [loaded]
    # One process runs all tasks here, so the collector still has what the first one told it.
    assert len({*names("total", "outputs")} - {loaded}) == 1
    assert {*names("fails", "inputs")} == {loaded}


def test_a_listeners_trouble_costs_no_task(monkeypatch):
    """Whatever the collector raises is not raised into the task."""
    ref = ArtifactRef("a" * 64, "s3://b/x", "e@1", "t", 1)
    asked = []
    monkeypatch.setattr(hook_lineage, "_has_lineage_reader", lambda: True)
    monkeypatch.setattr(hook_lineage, "_asset_uri", lambda ref: asked.append(ref) or 1 / 0)
    hook_lineage.report_inputs(object(), [ref])
    hook_lineage.report_outputs(object(), [ref])
    assert asked == [ref, ref]


def test_where_nobody_listens_no_provider_is_loaded():
    """Without a plugin that reads lineage, a report makes no collector, which would load every provider's assets."""
    script = """
import sys
from airflow.sdk import plugins_manager
plugins_manager.get_hook_lineage_readers_plugins = lambda: []
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.operators import hook_lineage
hook_lineage.report_inputs(object(), [ArtifactRef("a" * 64, "s3://b/x", "e@1", "t", 1)])
print("airflow.sdk.lineage" in sys.modules, "boto3" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split()[-2:] == ["False", "False"], done.stderr[-3000:]
