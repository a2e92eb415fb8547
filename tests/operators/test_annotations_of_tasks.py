"""Promises of `airflow_zen.operators.execute`."""

from types import SimpleNamespace

import pytest

from airflow_zen.operators.execute import was_cleared_by_user
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import StepRun, StepRunId
from airflow_zen.transports import open_transport

OPERATOR = SimpleNamespace(retries=1, upstream_task_ids={"above", "plain"})


@pytest.fixture
def records(tmp_path):
    return StepRunRecords(open_transport(str(tmp_path), {}))


def context(max_tries, run_type="manual", cleared=0):
    """Return what Airflow passes to a task about itself and its DAG run."""
    ti = SimpleNamespace(dag_id="d", run_id="r", max_tries=max_tries)
    return {"ti": ti, "dag_run": SimpleNamespace(run_type=run_type, clear_number=cleared)}


def test_a_retry_was_not_cleared(records):
    """A task within its allowed tries was not cleared."""
    assert not was_cleared_by_user(OPERATOR, context(1), records)


def test_more_tries_than_were_given_come_from_a_person(records):
    """More tries than the operator allows mean that a user cleared the task, outside of backfills."""
    assert was_cleared_by_user(OPERATOR, context(2, cleared=1), records)


def test_in_a_backfill_a_task_cleared_alone_was_cleared_by_hand(records):
    """In a backfill, a task was cleared by hand when the latest try of an upstream step is older than the clearing."""
    for attempt, cleared in ((9, 0), (10, 1)):
        run = StepRun(StepRunId("d", "r", "above", try_number=attempt), clear_number=cleared)
        records.put(run, delivered=True)
    assert not was_cleared_by_user(OPERATOR, context(2, "backfill", cleared=1), records)
    assert was_cleared_by_user(OPERATOR, context(2, "backfill", cleared=2), records)


def test_in_a_backfill_a_root_counts_as_cleared_by_it(records):
    """In a backfill, a task without upstream steps counts as cleared by the backfill."""
    assert not was_cleared_by_user(OPERATOR, context(2, "backfill", cleared=2), records)
