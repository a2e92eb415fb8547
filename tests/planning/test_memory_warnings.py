"""Promises of `airflow_zen.planning.memory_warnings`: warnings of memory that may not be enough."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.sdk import dag
from msgspec.structs import replace

from airflow_zen import ResourceHints, ml_step
from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.planning.memory_warnings import memory_limit_of
from airflow_zen.planning.plan import Plan, PlannedDagRun
from airflow_zen.runtimes import Docker
from tests.harness import NOW, run_dag

GIGABYTE = 10**9


@pytest.fixture(autouse=True)
def _root(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))


@ml_step
def train(rows: int) -> int:
    return rows


def pipeline(rows, hints=None):
    @dag(dag_id="memory", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC))
    def memory():
        train.override(hints=hints)(rows)

    return memory()


def planned(rows, hints=None):
    (step,) = Plan(pipeline(rows, hints), PlannedDagRun({}, NOW, None, NOW)).steps()
    return step


def record_limit(run_id, share):
    """Write the record of a run again, as one whose peak was a share of its limit."""
    records = open_stack(Settings.read()).records
    (run,) = records.read_dag_run("memory", run_id)
    peak = run.resources.peak_memory
    records.put(replace(run, resources=replace(run.resources, memory_limit=round(peak / share))), delivered=True)


@pytest.mark.parametrize(("share", "warns"), [(0.9, True), (0.5, False)])
def test_warns_near_the_limit(share, warns):
    """A step that will be computed has a warning if its last peak was near the limit of the process it ran in."""
    run_dag(pipeline(1), run_id="first")
    record_limit("first", share)
    assert ("90% of its limit" in planned(2).warning) is warns


def test_a_reused_result_leads_to_the_run_that_computed_it():
    """After a run that reused the result, the peak is that of the run that computed it; a planned hit has no warning."""
    run_dag(pipeline(1), run_id="first")
    record_limit("first", 0.95)
    run_dag(pipeline(1), run_id="second")
    assert planned(2).warning.startswith("its last peak of memory, ")
    assert planned(1).warning == ""


@pytest.mark.parametrize(("share", "warns"), [(0.9, True), (0.5, False)])
def test_hints_are_a_limit(share, warns):
    """A step in the task's process is compared with what its hints say, before the limit of the process."""
    run_dag(pipeline(1), run_id="first")
    (run,) = open_stack(Settings.read()).records.read_dag_run("memory", "first")
    hints = ResourceHints(memory=f"{run.resources.peak_memory / share / 1e6:.3f}M")
    assert ("90% of its limit" in planned(2, hints).warning) is warns


def test_knows_the_limit_that_a_step_will_have():
    """The limit is that of the runtime's first try, or of the pod of the task."""
    base = SimpleNamespace(name="base", resources=SimpleNamespace(limits={"memory": "2Gi"}))
    pod = SimpleNamespace(spec=SimpleNamespace(containers=[base]))
    assert memory_limit_of(Docker("image", memory=("4Gi", "8Gi")), {"pod_override": pod}) == 4 * 1024**3
    assert memory_limit_of(None, {"pod_override": pod}) == 2 * 1024**3
    assert memory_limit_of(None, {"pod_override": pod}, ResourceHints(memory="1Gi")) == 2 * 1024**3
    assert memory_limit_of(None, {}) == memory_limit_of(Docker("image"), None) == 0
