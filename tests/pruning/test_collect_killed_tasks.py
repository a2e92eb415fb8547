"""Promises of `airflow_zen.pruning.collect`: what killed tasks have left."""

import json
import time

import pytest

from airflow_zen.runs.step_run import StepRun, StepRunId, StepState, SuspendedRun

RUN = StepRunId("d", "r", "t", -1, 1)


@pytest.fixture
def pod(stack):
    """The keys of a pod's spec and answer."""
    keys = [f"runtimes/pods/d-t-1/{name}.json" for name in ("spec", "answer")]
    for key in keys:
        stack.store.transport.write(key, json.dumps({"run": str(RUN)}).encode())
    return keys


def pod_objects(stack):
    return sorted(stack.store.transport.list("runtimes/pods"))


def test_objects_of_a_killed_tasks_pod_are_deleted(stack, pod, prune_after):
    """The spec and the answer of a pod go when its DAG run is over, and the grace has passed; not before, and not dry."""
    prune_after(stack, 0)
    prune_after(stack, 30, unfinished=[("d", "r")])
    prune_after(stack, 2, dry_run=True)
    assert pod_objects(stack) == sorted(pod)
    prune_after(stack, 2)
    assert pod_objects(stack) == []


def test_an_answer_without_a_spec_is_deleted(stack, pod, prune_after):
    """What cannot be assigned to a DAG run goes after the grace."""
    stack.store.transport.delete([pod[0]])
    prune_after(stack, 2, unfinished=[("d", "r")])
    assert pod_objects(stack) == []


@pytest.mark.parametrize("lineage", [{}, {"run_id": "1"}])
def test_a_suspended_run_of_a_dag_run_that_is_over_is_ended(stack, prune_after, lineage):
    """A run whose task was deferred, and never resumed, is recorded as killed, and MLflow receives that if it has the run."""
    stack.records.put_suspended(SuspendedRun(StepRun(RUN, started=time.time()), lineage))
    prune_after(stack, 0)
    prune_after(stack, 30, unfinished=[("d", "r")])
    prune_after(stack, 2, dry_run=True)
    assert [each.run.id for each in stack.records.suspended()] == [RUN]
    prune_after(stack, 2)
    assert list(stack.records.suspended()) == []
    assert stack.records.get(RUN).state is StepState.KILLED
    assert [each.id for each in stack.records.undelivered()] == ([RUN] if lineage else [])


def test_a_suspended_run_that_has_a_record_keeps_it(stack, prune_after):
    """A run that has ended otherwise is not changed."""
    stack.records.put_suspended(SuspendedRun(StepRun(RUN), {}))
    stack.records.put(StepRun(RUN, state=StepState.FINISHED, ended=1.0), delivered=True)
    prune_after(stack, 2)
    assert stack.records.get(RUN).state is StepState.FINISHED
    assert list(stack.records.suspended()) == []
