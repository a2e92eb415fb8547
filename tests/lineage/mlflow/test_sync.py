"""Promises of `airflow_zen.lineage.mlflow.sync`: what MLflow does not have is delivered later, and only once."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from airflow_zen.artifacts.leases import LeaseRecord, LeaseRecords, StoreLock
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.lineage.mlflow.sync import deliver_pending, sync_pending
from airflow_zen.runs.step_run import FinishedDagRun, StepState
from tests.servers.process import free_port

pytestmark = pytest.mark.server


@pytest.fixture
def away(new_recorder):
    """A recorder whose server is unavailable."""
    return new_recorder(f"http://127.0.0.1:{free_port()}")


@pytest.fixture
def seen(client, dag_id):
    """Return everything that MLflow shows of the DAG, to compare before and after."""

    def look():
        experiment = client.get_experiment_by_name(f"airflow/{dag_id}")
        runs = client.search_runs([experiment.experiment_id]) if experiment else []
        return sorted(
            (r.info.run_id, r.info.status, r.data.params, r.data.metrics, r.data.tags, str(r.inputs)) for r in runs
        )

    return look


@pytest.fixture
def stopped(server):
    """Stop the session's server; it is started again, with its database, after the test at the latest."""
    yield server.stop
    if not server.healthy():
        server.start()


def test_a_step_recorded_while_mlflow_was_away(client, away, recorder, records, step, ended, ref, dag_id):
    """A step that MLflow does not have is delivered completely, with its own times, and is no longer undelivered."""
    run = ended(step(parameters={"a": 1}), StepState.FAILED, outputs={"o": ref(f"{dag_id}/train")}, error="E: x")
    records.put(run, away.finish(run, away.start(step())))
    assert deliver_pending(recorder, records).delivered == (run.id,)
    assert list(records.undelivered()) == []
    experiment = client.get_experiment_by_name(f"airflow/{dag_id}")
    (found,) = client.search_runs([experiment.experiment_id], "tags.`zen.kind` = 'step'")
    assert (found.info.status, found.info.start_time, found.info.end_time) == (
        "FAILED",
        1_700_000_000_000,
        1_700_000_002_500,
    )
    assert found.data.params == {"a": "1"}
    assert len(found.inputs.dataset_inputs) == 1


def test_delivering_twice_changes_nothing(client, recorder, new_recorder, records, step, ended, ref, seen, dag_id):
    """A record that MLflow has completely is not changed."""
    run = ended(step(parameters={"a": 1}, inputs={"f": ref(f"{dag_id}/load")}), outputs={"o": ref(f"{dag_id}/train")})
    assert recorder.finish(run, recorder.start(step(parameters={"a": 1}, inputs=run.inputs)))
    before = seen()
    for _ in range(2):
        records.put(run, delivered=False)
        assert deliver_pending(new_recorder(), records).delivered == (run.id,)
    assert seen() == before


def test_a_model_is_created_once(client, recorder, new_recorder, records, step, ended, root, transport, dag_id):
    """Replaying a step with a model output creates no second logged model and no second version."""
    store = ArtifactStore(root, transport)
    with store.upload_directory() as staging:
        (staging / "MLmodel").write_text(f"flavors: {{}}  # {dag_id}")
        model = store.put(staging, encoding="x.mlflow@1", type_name="x.Model", libraries={}, summary={}, name="d/t")
    run = ended(step(model=dag_id), outputs={"output": model})
    assert recorder.finish(run, recorder.start(step(model=dag_id)))
    records.put(run, delivered=False)
    assert deliver_pending(new_recorder(), records).delivered == (run.id,)
    experiment = client.get_experiment_by_name(f"airflow/{dag_id}").experiment_id
    assert len(client.search_logged_models([experiment])) == 1
    assert len(client.search_model_versions(f"name='{dag_id}'")) == 1


def test_a_delivered_step_leaves_an_ended_parent_alone(client, recorder, new_recorder, records, step, ended):
    """Delivering a step of a DAG run that has ended does not set its parent to RUNNING again."""
    parent = client.get_run(recorder.start(step("a")).run_id).data.tags["mlflow.parentRunId"]
    client.set_terminated(parent, "FAILED")
    records.put(ended(step("b")), delivered=False)
    assert deliver_pending(new_recorder(), records).delivered == (step("b").id,)
    assert client.get_run(parent).info.status == "FAILED"


def test_nothing_is_lost_while_mlflow_stays_away(away, records, step, ended):
    """With the server unavailable everything stays undelivered, and the attempt ends at the first failure."""
    for task in ("a", "b"):
        records.put(ended(step(task)), delivered=False)
    delivery = deliver_pending(away, records)
    assert (delivery.delivered, len(delivery.failed)) == ((), 1)
    assert len(list(records.undelivered())) == 2


def test_a_refused_record_does_not_hold_up_the_others(recorder, records, step, ended, ref):
    """A record that MLflow refuses stays undelivered; those after it are delivered."""
    from dataclasses import replace

    broken = replace(ref("x"), uri="s3://" + "x" * 70_000)
    records.put(ended(step("a"), outputs={"o": broken}), delivered=False)
    records.put(ended(step("b")), delivered=False)
    delivery = deliver_pending(recorder, records)
    assert [run.task_id for run in delivery.delivered] == ["b"]
    assert [run.id.task_id for run in records.undelivered()] == ["a"]


def test_a_record_that_is_refused_for_good(recorder, records, step, ended, ref):
    """A record that MLflow refuses three times is set aside with the reason, until it is requeued."""
    from dataclasses import replace

    broken = ended(step("a"), outputs={"o": replace(ref("x"), uri="s3://" + "x" * 70_000)})
    records.put(broken, delivered=False)
    for left in (1, 1, 0):
        assert [run for run, _ in deliver_pending(recorder, records).failed] == [broken.id]
        assert len(list(records.undelivered())) == left
    records.requeue_rejected()
    assert len(list(records.undelivered())) == 1
    records.put(ended(step("a")), delivered=False)
    assert deliver_pending(recorder, records).delivered == (broken.id,)
    records.requeue_rejected()
    assert list(records.undelivered()) == []


def test_a_delivery_ends_with_its_lock(transport, recorder, records, step, ended):
    """A delivery whose lock is about to expire leaves the rest to the next one."""
    records.put(ended(step("a")), delivered=False)
    expired = StoreLock(LeaseRecords(transport, "t"), 1, LeaseRecord(until=10.0), lambda: 11.0)
    assert deliver_pending(recorder, records, expired).delivered == ()
    assert len(list(records.undelivered())) == 1


@pytest.mark.slow
def test_a_server_killed_during_the_step(
    server, client, stopped, recorder, new_recorder, records, step, ended, ref, dag_id
):
    """When MLflow is killed between start and finish, the same run is completed later, exactly once."""
    opened = recorder.start(step(parameters={"a": 1}))
    stopped()
    run = ended(step(parameters={"a": 1}), outputs={"o": ref(f"{dag_id}/train")})
    delivered = recorder.finish(run, opened)
    records.put(run, delivered)
    assert not delivered
    server.start()
    for _ in range(2):
        deliver_pending(new_recorder(), records)
    experiment = client.get_experiment_by_name(f"airflow/{dag_id}").experiment_id
    (found,) = client.search_runs([experiment], "tags.`zen.kind` = 'step'")
    assert (found.info.run_id, found.info.status, found.data.params) == (opened.run_id, "FINISHED", {"a": "1"})


def ended_run(dag_id, state=StepState.FINISHED):
    return FinishedDagRun(dag_id, "manual__1", state, 1_700_000_009.0)


def parent_of(client, dag_id):
    experiment = client.get_experiment_by_name(f"airflow/{dag_id}").experiment_id
    (parent,) = client.search_runs([experiment], "tags.`zen.kind` = 'dag_run'")
    return parent


def test_the_end_of_a_dag_run_is_shown_later(client, away, recorder, records, step, ended, dag_id):
    """A DAG run that ended while MLflow was unavailable is delivered, closed with its own state, and drawn."""
    records.put(ended(step("a")), delivered=False)
    records.put_finished_dag_run(ended_run(dag_id, StepState.FAILED))
    assert sync_pending(away, records, time.time).failed
    assert len(list(records.finished_dag_runs())) == 1
    assert len(sync_pending(recorder, records, time.time).delivered) == 1
    assert list(records.finished_dag_runs()) == []
    parent = parent_of(client, dag_id)
    assert (parent.info.status, parent.info.end_time) == ("FAILED", 1_700_000_009_000)
    assert "lineage.svg" in parent.data.tags["mlflow.note.content"]


def test_two_deliveries_at_once(client, new_recorder, records, step, ended, dag_id):
    """While one process delivers, another does not; no step run is created twice."""
    for number in range(6):
        records.put(ended(step(f"t{number}")), delivered=False)
    gate = Barrier(4)

    def work(_):
        gate.wait()
        return sync_pending(new_recorder(), records, time.time)

    with ThreadPoolExecutor(4) as pool:
        deliveries = list(pool.map(work, range(4)))
    assert sum(len(done.delivered) for done in deliveries if done) == 6
    experiment = client.get_experiment_by_name(f"airflow/{dag_id}").experiment_id
    assert len(client.search_runs([experiment], "tags.`zen.kind` = 'step'")) == 6


def test_a_drawing_that_fails_is_not_repeated(client, recorder, records, step, ended, dag_id, monkeypatch):
    """When a graph cannot be drawn, the DAG run is closed, and drawing it is not tried again."""
    opened = recorder.start(step("a"))
    records.put(ended(step("a")), recorder.finish(ended(step("a")), opened))
    records.put_finished_dag_run(ended_run(dag_id))
    monkeypatch.setattr(recorder, "publish_graph", lambda *_: {}["no such thing"])
    sync_pending(recorder, records, time.time)
    assert list(records.finished_dag_runs()) == []
    assert parent_of(client, dag_id).info.status == "FINISHED"
