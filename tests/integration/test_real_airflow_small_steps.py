"""Batches and fused groups in a real Airflow and a real MLflow, where a process of each is killed once."""

from __future__ import annotations

import time

import pytest

from tests.servers.mlflow_server import tracked_at

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
DAG_IDS = ("in_batches", "in_a_group")


@pytest.fixture(scope="module")
def ended(deployment):
    """The ended run of each DAG."""
    for dag_id in DAG_IDS:
        deployment.airflow.wait_for_dag(dag_id, timeout=300)
        deployment.airflow.unpause(dag_id)
    started = {dag_id: deployment.airflow.trigger(dag_id) for dag_id in DAG_IDS}
    return {dag_id: deployment.airflow.wait_for_dag_run(run, timeout=600) for dag_id, run in started.items()}


@pytest.fixture(scope="module")
def client(deployment):
    import mlflow

    with tracked_at(deployment.mlflow_uri):
        yield mlflow.MlflowClient()


def runs(client, dag_id, kind):
    """Return the closed parent run of a DAG, or the runs of its steps in it."""
    experiment = client.get_experiment_by_name(f"airflow/{dag_id}").experiment_id
    deadline = time.monotonic() + 300
    while True:
        (parent,) = client.search_runs([experiment], "tags.`zen.kind` = 'dag_run'")
        if parent.info.status != "RUNNING" or time.monotonic() > deadline:
            break
        time.sleep(1)
    nested = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    return [parent] if kind == "dag_run" else nested


def states(client, dag_id):
    """Return the states of the step runs by step, index and try."""
    tags = [(run.data.tags, run.info.status) for run in runs(client, dag_id, "step")]
    return {(own["zen.task_id"], int(own.get("zen.map_index") or -1), own["zen.try"]): state for own, state in tags}


def tries(deployment, run):
    return {key: (task.state, task.try_number) for key, task in deployment.tasks(run).items()}


def test_a_killed_batch_goes_on(deployment, ended):
    """Airflow has a task for each batch; after one was killed, its next try computes the rest, and all results arrive."""
    run = ended["in_batches"]
    assert tries(deployment, run) == {
        ("trial", 0): ("success", 1),
        ("trial", 1): ("success", 2),
        ("collect", -1): ("success", 1),
        ("look", -1): ("success", 1),
    }
    assert deployment.xcom(run, "look") == [0, 1, 2, 3, 4, 5]


def test_each_element_is_a_run_in_mlflow(client, ended):
    """Every element has its own nested run with its own metrics; that of the killed one is ended with the DAG run."""
    assert states(client, "in_batches") == {
        **{("trial", index, "1"): "FINISHED" for index in (0, 1, 2, 3)},
        ("trial", 4, "1"): "KILLED",
        **{("trial", index, "2"): "FINISHED" for index in (3, 4, 5)},
        ("collect", -1, "1"): "FINISHED",
    }
    logged = {run.data.metrics["depth"] for run in runs(client, "in_batches", "step") if "depth" in run.data.metrics}
    assert logged == {0, 1, 2, 3, 4, 5}


def test_a_killed_group_goes_on(deployment, ended, client):
    """After a fused group was killed, its next try takes over the finished steps; every step has its own run in MLflow."""
    run = ended["in_a_group"]
    assert tries(deployment, run) == {("prepare", -1): ("success", 2)}
    assert states(client, "in_a_group") == {
        ("prepare.number", -1, "1"): "FINISHED",
        ("prepare.double", -1, "1"): "KILLED",
        **{(f"prepare.{step}", -1, "2"): "FINISHED" for step in ("number", "double", "plus_two")},
    }


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_the_parent_run_ends(client, ended, dag_id):
    """The scheduler closes the DAG run's MLflow run, also where a fused group is all that the DAG has."""
    (parent,) = runs(client, dag_id, "dag_run")
    assert parent.info.status == "FINISHED"
