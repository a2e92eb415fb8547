"""Promises of `airflow_zen.lineage.graph.publish`: the parent run in MLflow shows the graph in every form."""

import json
import urllib.request
from pathlib import Path

import pytest

from airflow_zen.lineage.graph.publish import GraphPublisher
from airflow_zen.lineage.mlflow.sync import close_parent_run
from airflow_zen.runs.step_run import FinishedDagRun, StepState

pytestmark = pytest.mark.server


@pytest.fixture
def publisher(rest, records, transport, root):
    return GraphPublisher(rest, records, transport, root)


@pytest.fixture
def keep(recorder, records, ended):
    """Record a step in MLflow and in the store."""

    def record(run, **facts):
        opened = recorder.start(run)
        finished = ended(run, **facts)
        records.put(finished, recorder.finish(finished, opened))
        return opened.run_id

    return record


@pytest.fixture
def flow(keep, step, ref, dag_id):
    """Record a DAG run of two steps that share a table; return the id of a step's run."""
    table = ref(f"{dag_id}/load")
    log_url = "http://af:8080/dags/d/runs/r%201/tasks/load"
    keep(step("load", log_url=log_url), outputs={"output": table})
    return keep(step("train", inputs={"table": table}), outputs={"output": ref(f"{dag_id}/train")})


@pytest.fixture
def parent(client, flow):
    return lambda: client.get_run(client.get_run(flow).data.tags["mlflow.parentRunId"])


def fetched(server, run_id, name):
    with urllib.request.urlopen(f"{server.uri}/get-artifact?path=lineage/{name}&run_uuid={run_id}") as answer:
        return answer.read().decode()


def test_all_forms_are_served_by_mlflow(server, publisher, parent, dag_id):
    """MLflow serves SVG, HTML, Markdown and JSON as artifacts of the parent run."""
    assert publisher.publish(dag_id, "manual__1")
    run_id = parent().info.run_id
    assert fetched(server, run_id, "lineage.svg").startswith("<svg")
    assert "<!DOCTYPE html>" in fetched(server, run_id, "lineage.html")
    assert "| train |" in fetched(server, run_id, "lineage.md") or "[train](" in fetched(server, run_id, "lineage.md")
    steps = [n["label"] for n in json.loads(fetched(server, run_id, "lineage.json"))["nodes"] if n["kind"] == "step"]
    assert sorted(steps) == ["load", "train"]


def test_the_description_links_to_graph_and_steps_above_the_picture(publisher, parent, flow, dag_id):
    """The parent's description begins with links to the graph and to Airflow; steps with links and the picture follow."""
    publisher.publish(dag_id, "manual__1")
    info, note = parent().info, parent().data.tags["mlflow.note.content"]
    graph = f"#/experiments/{info.experiment_id}/runs/{info.run_id}/artifacts/lineage/lineage.html"
    assert note.startswith(f"[Lineage graph]({graph}?workflowType=machine_learning) · [DAG run in Airflow]")
    assert "[DAG run in Airflow](http://af:8080/dags/d/runs/r%201)" in note
    assert note.endswith(f"![Lineage](get-artifact?path=lineage/lineage.svg&run_uuid={info.run_id})")
    assert f"runs/{flow}?workflowType" in note
    assert len(note) <= 8000


def test_the_parent_has_numbers(publisher, parent, dag_id):
    """The parent run has metrics for the steps that ran, were reused, and failed."""
    publisher.publish(dag_id, "manual__1")
    metrics = parent().data.metrics
    assert (metrics["zen.steps"], metrics["zen.steps_cached"], metrics["zen.steps_failed"]) == (2, 0, 0)


def test_parameters_that_the_parent_lacks_are_logged(client, publisher, records, parent, step, ended, dag_id):
    """The parent run gets the DAG run's parameters from the records where MLflow was away at its start, and only once."""
    parent()
    records.put(ended(step("later", dag_run_parameters={"rate": 0.5, "name": "x"})), delivered=True)
    for _ in range(2):
        publisher.publish(dag_id, "manual__1")
        assert parent().data.params == {"rate": "0.5", "name": "x"}


def test_the_parent_lists_inputs_of_other_dag_runs(publisher, keep, client, step, ref, dag_id):
    """The parent run lists the inputs that no step of the DAG run made, once however often it is published."""
    table = ref("archive/clean")
    run_id = keep(step("load", inputs={"raw": table}), outputs={"output": ref(f"{dag_id}/load")})
    for _ in range(2):
        publisher.publish(dag_id, "manual__1")
    run = client.get_run(client.get_run(run_id).data.tags["mlflow.parentRunId"])
    assert [entry.dataset.digest for entry in run.inputs.dataset_inputs] == [table.digest[:16]]


def test_mlflow_draws_the_trace(client, publisher, parent, dag_id):
    """The parent run has one lineage trace with a span for each edge, however often it is published."""
    for _ in range(2):
        publisher.publish(dag_id, "manual__1")
    (trace,) = client.search_traces(locations=[parent().info.experiment_id], run_id=parent().info.run_id)
    names = sorted(span.name for span in client.get_trace(trace.info.trace_id).data.spans)
    assert names == sorted([f"{dag_id} manual__1", "load", "load", "train", "train"])
    assert str(trace.info.state).endswith("OK")


def test_the_trace_has_the_state_of_the_dag_run(client, rest, publisher, keep, parent, step, dag_id):
    """The trace of a failed DAG run is an error, with the step that failed; after a cleared task succeeds it is OK."""

    def trace_after(state):
        close_parent_run(rest, FinishedDagRun(dag_id, "manual__1", state, ended=1_700_000_009.0))
        publisher.publish(dag_id, "manual__1")
        (trace,) = client.search_traces(locations=[parent().info.experiment_id])
        spans = client.get_trace(trace.info.trace_id).data.spans
        return str(trace.info.state), [span.name for span in spans if span.status.status_code == "ERROR"]

    keep(step("report"), state=StepState.FAILED, error="ValueError: no rows")
    assert trace_after(StepState.FAILED) == ("ERROR", [f"{dag_id} manual__1", "report"])
    keep(step("report", try_number=2))
    assert trace_after(StepState.FINISHED) == ("OK", [])
    assert trace_after(StepState.KILLED) == ("ERROR", [f"{dag_id} manual__1"])


def test_the_trace_can_be_left_out(client, rest, records, transport, root, parent, dag_id):
    """With `[zen] lineage_trace` off no trace is sent."""
    assert GraphPublisher(rest, records, transport, root, log_traces=False).publish(dag_id, "manual__1")
    assert client.search_traces(locations=[parent().info.experiment_id]) == []


def test_a_step_without_a_record_is_drawn_too(server, publisher, recorder, parent, step, dag_id):
    """A step whose process was killed before it wrote its record is drawn from MLflow."""
    parent()
    recorder.start(step("died"))
    publisher.publish(dag_id, "manual__1")
    assert '"label": "died"' in fetched(server, parent().info.run_id, "lineage.json")


def test_nothing_to_draw(publisher):
    """`publish` returns False for a DAG run that MLflow does not have."""
    assert not publisher.publish("no such dag", "r")


def test_thousands_of_mapped_steps(client, publisher, records, recorder, step, ended, ref, dag_id):
    """A DAG run with thousands of mapped steps has a short description and a complete JSON."""
    parts = [ref(f"{dag_id}/part") for _ in range(3000)]
    for number, part in enumerate(parts):
        records.put(ended(step("part", map_index=number), outputs={"output": part}), delivered=True)
    opened = recorder.start(step("join", inputs={f"p[{n}]": part for n, part in enumerate(parts)}))
    assert publisher.publish(dag_id, "manual__1")
    run_id = client.get_run(opened.run_id).data.tags["mlflow.parentRunId"]
    note = client.get_run(run_id).data.tags["mlflow.note.content"]
    assert "part × 3000" in note
    assert client.get_run(run_id).data.metrics["zen.steps"] == 3001
    listed = json.loads(Path(client.download_artifacts(run_id, "lineage/lineage.json")).read_text())
    assert sum(node["kind"] == "step" for node in listed["nodes"]) == 3001
