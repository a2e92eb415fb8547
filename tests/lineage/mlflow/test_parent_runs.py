"""Promises of `airflow_zen.lineage.mlflow.parent_runs`: one parent run, even when several tasks start at once or it was deleted."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow.entities import ViewType

from airflow_zen.lineage.mlflow.parent_runs import claimed_parent
from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.transports.local import LocalTransport

pytestmark = pytest.mark.server


@pytest.fixture
def parents(client):
    """Return the parent runs of an experiment that are not deleted."""

    def search(experiment_id):
        found = client.search_runs([experiment_id], "tags.`zen.kind` = 'dag_run'", ViewType.ACTIVE_ONLY)
        return [run.info.run_id for run in found]

    return search


def together(count, work):
    """Do `work(number)` on as many threads, all released at once."""
    gate = threading.Barrier(count)

    def released(number):
        gate.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(released, range(count)))


def test_sixteen_first_tasks_make_one_parent(client, new_recorder, step, parents):
    """Sixteen tasks that start at once in a new DAG get one experiment and one parent run, and all are in it."""
    recorders = [new_recorder() for _ in range(16)]
    opened = together(16, lambda n: recorders[n].start(step(f"t{n}")))
    runs = [client.get_run(o.run_id) for o in opened]
    assert len({run.info.experiment_id for run in runs}) == 1
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == set(parents(runs[0].info.experiment_id))
    (parent,) = parents(runs[0].info.experiment_id)
    first, id_ = recorders[0], step("t0").id
    claimed = claimed_parent(id_.dag_id, id_.run_id, first.rest, first._transport)
    assert (claimed.experiment_id, claimed.run_id) == (runs[0].info.experiment_id, parent)


def test_the_parent_has_the_parameters_of_the_dag_run(client, new_recorder, step, ended):
    """The parent run has the DAG run's parameters while its first step runs; later steps send none."""
    facts = {"dag_run_parameters": {"rate": 0.5, "conf.db": {"host": "h"}}}
    first = new_recorder()
    opened = first.start(step("a", **facts))
    first._prefetches[step("a").id].result()
    parent = client.get_run(client.get_run(opened.run_id).data.tags["mlflow.parentRunId"])
    assert (parent.info.status, parent.data.params) == ("RUNNING", {"rate": "0.5", "conf.db.host": "h"})
    second = new_recorder()
    assert second.finish(ended(step("b", **facts)), second.start(step("b", **facts)))
    assert second.rest.request_count == 4


def test_a_store_without_conditional_writes(client, server, root, step, parents):
    """Where the store overwrites instead of refusing, a task uses the parent that the claim names in the end."""

    class Overwriting(LocalTransport):
        def create(self, key, data):
            self.write(key, data)
            settled.wait()

    settled = threading.Barrier(2)
    recorders = [MlflowRecorder(MlflowRest(TrackingServer(server.uri)), Overwriting(root), root) for _ in range(2)]
    opened = together(2, lambda n: recorders[n].start(step(f"t{n}")))
    runs = [client.get_run(o.run_id) for o in opened]
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == set(parents(runs[0].info.experiment_id))


def test_a_deleted_experiment_is_restored(client, recorder, new_recorder, step, ended):
    """After the experiment was deleted in MLflow, the next step restores it with the same parent."""
    first = client.get_run(recorder.start(step("a")).run_id)
    client.delete_experiment(first.info.experiment_id)
    again = new_recorder()
    opened = again.start(step("b"))
    assert again.finish(ended(step("b")), opened)
    second = client.get_run(opened.run_id)
    assert second.data.tags["mlflow.parentRunId"] == first.data.tags["mlflow.parentRunId"]
    assert client.get_experiment(first.info.experiment_id).lifecycle_stage == "active"


def test_a_deleted_parent_is_restored(client, recorder, new_recorder, step, ended):
    """After the parent run was deleted in MLflow, the next step restores it."""
    parent = client.get_run(recorder.start(step("a")).run_id).data.tags["mlflow.parentRunId"]
    client.delete_run(parent)
    again = new_recorder()
    assert again.finish(ended(step("b")), again.start(step("b")))
    assert client.get_run(parent).info.lifecycle_stage == "active"


def test_a_parent_that_ended_runs_again_with_its_steps(client, recorder, new_recorder, step, ended):
    """A cleared task sets the parent run, which had ended, to RUNNING."""
    parent = client.get_run(recorder.start(step("a")).run_id).data.tags["mlflow.parentRunId"]
    client.set_terminated(parent, "FAILED")
    again = new_recorder()
    again.finish(ended(step("a", try_number=2)), again.start(step("a", try_number=2)))
    assert client.get_run(parent).info.status == "RUNNING"


@pytest.fixture
def wiped(transport, recorder, client, step):
    """Leave a claim whose parent run is in no database, as after MLflow was replaced."""
    recorder.start(step("a"))
    (claim,) = transport.list("runs")
    text = transport.read(claim).decode()
    parent = client.get_run(recorder.start(step("a")).run_id).data.tags["mlflow.parentRunId"]
    transport.write(claim, text.replace(parent, "0" * 32).encode())
    client.delete_run(parent)


def test_a_missing_parent_is_replaced_once(client, wiped, new_recorder, step, ended, parents):
    """When the claimed parent run no longer exists, all tasks agree on one new parent."""
    before = set(parents(client.get_run(new_recorder().start(step("x", "other")).run_id).info.experiment_id))

    def run(number):
        recorder = new_recorder()
        opened = recorder.start(step(f"t{number}"))
        assert recorder.finish(ended(step(f"t{number}")), opened)
        return client.get_run(opened.run_id)

    runs = together(8, run)
    made = {run.data.tags["mlflow.parentRunId"] for run in runs}
    assert len(made) == 1
    assert set(parents(runs[0].info.experiment_id)) - before == made


def test_an_experiment_id_that_belongs_to_another_dag(client, transport, recorder, new_recorder, step, ended, dag_id):
    """After MLflow was replaced and the claimed experiment id is another DAG's, no run is left in that experiment."""
    recorder.start(step("a"))
    (claim,) = transport.list("runs")
    other = client.create_experiment(f"elsewhere-{dag_id}")
    own = client.get_experiment_by_name(f"airflow/{dag_id}").experiment_id
    text = transport.read(claim).decode().replace(f'"experiment_id": "{own}"', f'"experiment_id": "{other}"')
    transport.write(claim, text.encode())
    again = new_recorder()
    opened = again.start(step("b"))
    assert again.finish(ended(step("b")), opened)
    assert client.get_run(opened.run_id).info.experiment_id == own
    assert client.search_runs([other]) == []


def test_a_server_under_a_new_address(client, server, recorder, new_recorder, step, ended, parents):
    """A server with a new address still has the DAG run's parent, and no second one is created."""
    first = client.get_run(recorder.start(step("a")).run_id)
    other = new_recorder(f"http://localhost:{server.port}")
    opened = other.start(step("b"))
    assert other.finish(ended(step("b")), opened)
    assert client.get_run(opened.run_id).data.tags["mlflow.parentRunId"] == first.data.tags["mlflow.parentRunId"]
    assert len(parents(first.info.experiment_id)) == 1


def test_claims_are_per_server(transport, recorder, step):
    """A claim names its tracking server, so that two servers can use the same store."""
    recorder.start(step("a"))
    (claim,) = transport.list("runs")
    assert claim.rpartition("/")[2].startswith("mlflow-")
