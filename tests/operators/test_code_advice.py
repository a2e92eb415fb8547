"""Promises of refused code under `cache=False`, which every refusal of code offers."""

import pytest

from airflow_zen import ml_step
from tests.caching.code.project import Project
from tests.caching.code.test_advice import CASES
from tests.harness import run_dag
from tests.operators.pipelines import pipeline

pytestmark = pytest.mark.usefixtures("root")


def test_refused_code_runs_without_a_cache(tmp_path, monkeypatch):
    """With `cache=False` all code that has no key runs, and no task is labeled with a refusal."""
    monkeypatch.chdir(tmp_path)

    def steps():
        for number, case in enumerate(CASES):
            with Project(tmp_path / str(number), {"flow.py": case.refused}).imported() as flow:
                ml_step(task_id=f"step_{number}", cache=False)(flow.step)(case.argument)

    run = run_dag(pipeline(steps))
    assert [task.error for task in run.tasks] == [None] * len(CASES)
    assert {task.label for task in run.tasks} == {"computed: the step is declared cache=False"}
