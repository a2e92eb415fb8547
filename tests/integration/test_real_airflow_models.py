"""Promises of the life of a model in a real Airflow: trained, gated, approved, promoted, watched, and used to predict."""

import time

import pytest
from mlflow import MlflowClient

pytestmark = [pytest.mark.server, pytest.mark.slow]


def events_of(deployment, dag_id, count):
    """Return what started the runs of a DAG, the first first, once there are so many events and all runs have ended."""
    deadline = time.monotonic() + 300
    while True:
        runs = deployment.airflow.dag_runs(dag_id)
        if all(run.state == "success" for run in runs):
            found = [(run, event) for run in runs for event in deployment.xcom(run, "told")]
            if len(found) >= count:
                return found
        assert time.monotonic() < deadline, runs
        time.sleep(0.5)


def answer(deployment, run, option):
    """Answer the question of a run as a person does, some seconds after it is asked.

    Airflow takes a task for killed that is queued again before the scheduler knows that its first process has ended.
    """
    deadline = time.monotonic() + 300
    while deployment.tasks(run)["approve_promote", -1].state not in ("awaiting_input", "deferred"):
        assert time.monotonic() < deadline, deployment.tasks(run)
        time.sleep(0.5)
    time.sleep(5)
    deployment.airflow.answer(run, "approve_promote", option)


def ended(deployment, run):
    """Wait for the end of a run, which is a success; give the states of its tasks."""
    run = deployment.airflow.wait_for_dag_run(run)
    failed = [task for task in deployment.tasks(run).values() if task.state == "failed"]
    assert not failed, [deployment.airflow.log(run, task)[-2000:] for task in failed]
    return {task_id: task.state for (task_id, _), task in deployment.tasks(run).items()}


def test_life_of_a_model(deployment):
    """A first model is approved; what is refused, or has the alias, is not asked about; each move is one event."""
    client = MlflowClient(deployment.mlflow_uri)
    trained = deployment.airflow.trigger("train_delay", {"column": "noise"})
    answer(deployment, trained, "Approve")
    assert ended(deployment, trained)["promote"] == "success"
    assert client.get_model_version_by_alias("delay", "champion").version == "1"
    assert client.get_registered_model("delay").description == "Minutes of delay."

    ((predicted, event),) = events_of(deployment, "predict_delay", 1)
    assert (event["version"], event["previous"]) == ("1", "")
    assert deployment.xcom(predicted, "look") == "noise"

    again = deployment.airflow.trigger("train_delay", {"column": "noise"})
    assert ended(deployment, again)["promote"] == "skipped"

    better = deployment.airflow.trigger("train_delay", {"column": "x"})
    answer(deployment, better, "Reject")
    assert ended(deployment, better)["promote"] == "skipped"
    assert client.get_model_version_by_alias("delay", "champion").version == "1"

    client.set_registered_model_alias("delay", "champion", "2")
    _, (_, event) = events_of(deployment, "predict_delay", 2)
    assert event["payload"]["version"] == "2"

    worse = ended(deployment, deployment.airflow.trigger("train_delay", {"column": "noise"}))
    assert (worse["check_promote"], worse["promote"]) == ("success", "skipped")
    history = deployment.run_zen_command("models", "history", "delay", "--output", "json")
    assert "moved outside of airflow_zen" in history
    assert len(events_of(deployment, "predict_delay", 2)) == 2
