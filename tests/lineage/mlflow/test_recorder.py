"""Promises of `airflow_zen.lineage.mlflow.recorder`, tested through MLflow's own client."""

import json
import logging
import socket
import time
from dataclasses import replace

import pytest
from joblib.externals import loky
from joblib.externals.loky import reusable_executor

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.lineage.mlflow.errors import MlflowRejected
from airflow_zen.lineage.mlflow.rest import MLFLOW_TIMEOUTS
from airflow_zen.runs.step_run import CacheState, ResourceUsage, StepState
from tests.servers.process import free_port

pytestmark = pytest.mark.server

SUMMARY = {
    "shape": "3 rows × 2 columns",
    "rows": 3,
    "columns": [{"name": "a", "type": "int64"}, {"name": "ä", "type": "datetime64[us]"}],
}


def test_a_step_is_a_nested_run_of_its_dag_run(client, record_step, step, dag_id):
    """A step is a run of the DAG's experiment, nested directly under the one run of its DAG run."""
    run = client.get_run(record_step(step("load")))
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert client.get_experiment(run.info.experiment_id).name == f"airflow/{dag_id}"
    assert (run.info.run_name, parent.info.run_name) == ("load", "manual__1")
    assert parent.data.tags["zen.kind"] == "dag_run"
    assert "mlflow.parentRunId" not in parent.data.tags


def test_steps_of_one_dag_run_share_the_parent(client, new_recorder, step):
    """Processes that record steps of one DAG run use the same parent; another DAG run has another."""
    runs = [new_recorder().start(step(task, run_id)).run_id for task, run_id in [("a", "r1"), ("b", "r1"), ("c", "r2")]]
    first, second, other = [client.get_run(run).data.tags["mlflow.parentRunId"] for run in runs]
    assert first == second != other


def test_an_open_run_is_running(client, recorder, step):
    """While user code runs, MLflow shows the run as RUNNING since the step's start, with its identity."""
    opened = recorder.start(step(map_index=3, try_number=2, label="depth=8", owner="ann", log_url="http://af/log"))
    run = client.get_run(opened.run_id)
    assert (run.info.status, run.info.start_time) == ("RUNNING", 1_700_000_000_000)
    assert run.info.run_name == "train [3] depth=8 try 2"
    tags = run.data.tags
    assert (tags["zen.task_id"], tags["zen.map_index"], tags["zen.try"]) == ("train", "3", "2")
    assert (tags["mlflow.user"], tags["mlflow.source.type"]) == ("ann", "JOB")
    assert tags["zen.airflow_url"] == "http://af/log"
    assert opened.url.endswith(
        f"/#/experiments/{run.info.experiment_id}/runs/{opened.run_id}?workflowType=machine_learning"
    )


@pytest.mark.parametrize("state", [StepState.FINISHED, StepState.FAILED, StepState.KILLED])
def test_end_states(client, recorder, step, ended, state):
    """A run has the end state and the end time of its step."""
    opened = recorder.start(step())
    assert recorder.finish(ended(step(), state, error="ValueError: bad" if state == "FAILED" else ""), opened)
    run = client.get_run(opened.run_id)
    assert (run.info.status, run.info.end_time) == (state, 1_700_000_002_500)
    assert run.data.tags.get("zen.error") == ("ValueError: bad" if state == "FAILED" else None)


def test_parameters_and_metrics(client, record_step, step):
    """Parameters are flattened texts, and the step's seconds are a metric."""
    run = client.get_run(
        record_step(step(parameters={"depth": 8, "grid": {"lr": [0.1, 0.2]}, "note": "ü", "empty": ""}))
    )
    assert run.data.params == {"depth": "8", "grid.lr": "[0.1, 0.2]", "note": "ü", "empty": ""}
    assert run.data.metrics["zen.seconds"] == 2.5


def test_resources_are_system_metrics(client, record_step, step):
    """What a step used is shown under names that MLflow's page has on its tab of system metrics."""
    used = ResourceUsage(peak_memory=318_500_000, cpu_seconds=1.25, read_bytes=4_000_000)
    metrics = client.get_run(record_step(step(resources=used))).data.metrics
    assert {name: value for name, value in metrics.items() if name.startswith("system/")} == {
        "system/peak_memory_megabytes": 318.5,
        "system/cpu_seconds": 1.25,
        "system/read_megabytes": 4.0,
    }


def test_hundreds_of_long_parameters(client, record_step, step):
    """More and longer parameters than MLflow accepts are sent in batches, shortened with `…`, and counted."""
    parameters = {f"p{n:03}": "ß" * 10_000 for n in range(310)}
    params = client.get_run(record_step(step(parameters=parameters))).data.params
    assert len(params) == 301
    assert len(params["p000"]) == 6000
    assert params["p000"].endswith("…")
    assert params["zen.more"].startswith("… 10 more")


def test_artifacts_are_datasets_with_contexts(client, record_step, step, ref, dag_id):
    """Every artifact is a dataset of the run with name, digest, address, schema, rows, and its direction."""
    source, output = ref(f"{dag_id}/load"), ref(f"{dag_id}/train")
    run_id = record_step(step(inputs={"frame": source}), outputs={"output": output}, summaries={output.digest: SUMMARY})
    found = {i.dataset.name: i for i in client.get_run(run_id).inputs.dataset_inputs}
    contexts = {name: i.tags[0].value for name, i in found.items()}
    assert contexts == {f"{dag_id}/load": "input", f"{dag_id}/train": "output"}
    dataset = found[f"{dag_id}/train"].dataset
    assert (dataset.digest, dataset.source_type) == (output.digest[:16], "local")
    assert json.loads(dataset.source) == {"uri": output.uri}
    types = [column["type"] for column in json.loads(dataset.schema)["mlflow_colspec"]]
    assert types == ["long", "datetime"]
    profile = json.loads(dataset.profile)
    assert (profile["rows"], profile["size"], profile["sha256"]) == (3, "28.1 kB", output.digest)


def test_an_input_of_another_dag_has_its_schema(client, record_step, root, transport, step, dag_id):
    """An input of another DAG has its schema in this DAG's experiment, read from its manifest."""
    store = ArtifactStore(root, transport)
    with store.upload_directory() as staging:
        (staging / "data.parquet").write_text(dag_id)
        made = {"encoding": "pandas.parquet@1", "type_name": "pandas.DataFrame", "libraries": {}, "summary": SUMMARY}
        frame = store.put(staging, **made, name="elsewhere/load")
    (found,) = client.get_run(record_step(step(inputs={"frame": frame}))).inputs.dataset_inputs
    assert [column["name"] for column in json.loads(found.dataset.schema)["mlflow_colspec"]] == ["a", "ä"]


@pytest.mark.slow
def test_a_thousand_inputs(client, record_step, step, ref, dag_id):
    """A step that reads a thousand mapped results lists all of them."""
    run = client.get_run(record_step(step(inputs={f"f[{n}]": ref(f"{dag_id}/load") for n in range(1_100)})))
    assert len(run.inputs.dataset_inputs) == 1_100
    assert run.data.tags["zen.inputs"].endswith("|…|")


def test_producers_and_consumers_are_one_query_each(client, recorder, step, ended, ref, dag_id):
    """The packed tags distinguish the producer of a digest from its consumers."""
    frame = ref(f"{dag_id}/load")
    producer = recorder.start(step("load"))
    recorder.finish(ended(step("load"), outputs={"output": frame}), producer)
    consumer = recorder.start(step("train", inputs={"frame": frame}))
    recorder.finish(ended(step("train", inputs={"frame": frame})), consumer)
    experiment = [consumer.environment["MLFLOW_EXPERIMENT_ID"]]

    def who(tag):
        return [r.info.run_id for r in client.search_runs(experiment, f"tags.`{tag}` LIKE '%@{frame.digest[:16]}|%'")]

    assert who("zen.outputs") == [producer.run_id]
    assert who("zen.inputs") == [consumer.run_id]


def test_a_cache_hit(client, recorder, step, ended, ref, dag_id):
    """A hit is a run whose name says cached, with its origin and the origin's datasets."""
    frame = ref(f"{dag_id}/load")
    first = recorder.start(step("load"))
    recorder.finish(ended(step("load"), outputs={"output": frame}), first)
    hit = step("load", "r2", cache=CacheState.HIT, origin=f"{dag_id}/manual__1/load/-1/1", outputs={"output": frame})
    opened = recorder.start(hit)
    assert recorder.finish(ended(hit), opened)
    run, origin = client.get_run(opened.run_id), client.get_run(first.run_id)
    assert run.info.run_name == "load (cached)"
    assert run.data.tags["zen.cache"] == "hit"
    assert run.data.tags["zen.cache_source_run"] == f"{dag_id}/manual__1/load/-1/1"
    assert [i.dataset.digest for i in run.inputs.dataset_inputs] == [
        i.dataset.digest for i in origin.inputs.dataset_inputs
    ]


def test_four_requests_on_the_critical_path(recorder, new_recorder, step, ended, ref, dag_id):
    """A step waits for four requests; two, for its parameters and its parent run, go on while user code runs.

    A hit sends its parameters at the end.
    """
    recorder.start(step("first"))
    for requests, facts in ((6, {}), (5, {"cache": CacheState.HIT, "origin": "o"})):
        second = new_recorder()
        run = step("second", inputs={"f": ref(f"{dag_id}/f")}, parameters={"a": 1}, **facts)
        opened = second.start(run)
        assert second.finish(ended(run, outputs={"output": ref(f"{dag_id}/second")}), opened)
        assert second.rest.request_count == requests


def test_parameters_are_there_while_the_step_runs(client, recorder, step, ended):
    """The parameters of a step are in MLflow while its function runs."""
    run = step(parameters={"depth": None, "db": {"host": "x"}, **{f"p{n}": n for n in range(120)}})
    opened = recorder.start(run)
    recorder._prefetches[run.id].result()
    found = client.get_run(opened.run_id)
    assert found.info.status == "RUNNING"
    assert (found.data.params["depth"], found.data.params["db.host"], len(found.data.params)) == (
        "None",
        "x",
        122,
    )
    assert recorder.finish(ended(run), opened)
    assert client.get_run(opened.run_id).data.params == found.data.params


def test_parameters_that_were_refused_at_the_start_are_sent_at_the_end(client, recorder, step, ended):
    """Where a parameter was logged past the relay before the step's own, the step's are sent at the end, renamed."""
    run = step(parameters={"depth": None, "rows": 5})
    post = recorder.rest.request

    def log_before(method, path, body=None):
        if path == "runs/log-batch" and "params" in body:
            client.log_param(body["run_id"], "depth", 3)
            recorder.rest.request = post
            raise MlflowRejected("busy", 500)
        return post(method, path, body)

    recorder.rest.request = log_before
    assert recorder.finish(ended(run), recorder.start(run))
    experiment = client.get_experiment_by_name(f"airflow/{run.id.dag_id}").experiment_id
    (found,) = client.search_runs([experiment], "tags.`zen.kind` = 'step'")
    assert found.data.params == {"depth": "3", "step.depth": "None", "rows": "5"}
    assert found.data.metrics["zen.seconds"] == 2.5


def test_the_description_links_and_shows_the_code(client, record_step, step, ref, dag_id):
    """A run's description links to the log and to the runs of each artifact, and shows the step's code."""
    source = "def train():\n    return 1\n" + "# long\n" * 5000
    run_id = record_step(step(log_url="http://af/log", source=source), outputs={"output": ref(f"{dag_id}/train")})
    text = client.get_run(run_id).data.tags["mlflow.note.content"]
    assert "[Log in Airflow](http://af/log)" in text
    assert "searchFilter=dataset.digest" in text
    assert "def train():" in text
    assert len(text) <= 8000


def test_names_beyond_the_limits(client, server, transport, root, ended, ref):
    """Names longer than MLflow's limits, in any script, are recorded under a shortened name."""
    from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
    from airflow_zen.lineage.mlflow.rest import MlflowRest
    from airflow_zen.lineage.mlflow.server import TrackingServer
    from airflow_zen.runs.step_run import StepRun, StepRunId

    recorder = MlflowRecorder(MlflowRest(TrackingServer(server.uri)), transport, root)
    run = StepRun(StepRunId("日" * 60, "r" * 100, "t" * 249, 1, 2), started=1.0, label="λ" * 300)
    opened = recorder.start(run)
    outputs = {f"o{n}": ref(f"{n}" * 600) for n in range(20)}
    assert recorder.finish(ended(run, outputs=outputs, error=""), opened)
    found = client.get_run(opened.run_id)
    assert len(found.info.run_name) == 250
    assert found.info.run_name.endswith("…")
    assert {len(i.dataset.name) for i in found.inputs.dataset_inputs} == {500}
    assert len(found.data.tags["zen.outputs"]) <= 8000
    assert found.data.tags["zen.io_truncated"] == "true"


def test_a_refused_part_does_not_stop_the_others(client, recorder, step, ended, ref, dag_id, caplog):
    """When one part is refused the others are delivered, and the step counts as undelivered."""
    broken = replace(ref(f"{dag_id}/train"), uri="s3://" + "x" * 70_000)
    opened = recorder.start(step(parameters={"a": 1}))
    assert not recorder.finish(ended(step(parameters={"a": 1}), outputs={"output": broken}), opened)
    run = client.get_run(opened.run_id)
    assert (run.info.status, run.data.params) == ("FINISHED", {"a": "1"})
    assert "airflow zen lineage sync" in caplog.text


def test_the_end_of_a_step_starts_no_process(record_step, step, monkeypatch):
    """In a process that has imported joblib, as scikit-learn does, the end of a step does not start joblib's workers."""
    started = []
    monkeypatch.setattr(reusable_executor, "_executor", None)
    monkeypatch.setattr(loky, "get_reusable_executor", lambda: started.append("executor"))
    record_step(step())
    assert (reusable_executor._executor, started) == (None, [])


def test_an_unavailable_server_fails_no_step(new_recorder, step, ended, caplog):
    """Without a server a step is opened and finished at once, undelivered, with one warning."""
    recorder = new_recorder(f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        for task in ("a", "b"):
            opened = recorder.start(step(task))
            assert not recorder.finish(ended(step(task)), opened)
    assert recorder.rest.request_count == 1
    assert time.monotonic() - began < 20
    assert opened.run_id == ""
    assert opened.environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert len(caplog.records) == 1


def test_a_server_that_never_answers_costs_one_wait(new_recorder, step, ended):
    """A server that accepts connections and never answers costs one bounded wait per process, not per request."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        recorder = new_recorder(f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        for task in ("a", "b", "c"):
            assert not recorder.finish(ended(step(task)), recorder.start(step(task)))
        assert recorder.rest.request_count == 1
        # A second wait would not be over by then.
        assert time.monotonic() - began < 2 * MLFLOW_TIMEOUTS.read


def test_an_unexpected_error_fails_no_step(new_recorder, step, ended, monkeypatch, caplog):
    """An unexpected error does not fail the step, and is logged with its traceback."""
    recorder = new_recorder()
    monkeypatch.setattr(recorder.rest, "post", lambda path, body: {})
    monkeypatch.setattr(recorder.rest, "get", lambda path, query: {})
    assert not recorder.finish(ended(step()), recorder.start(step()))
    assert "KeyError" in caplog.text


def test_an_unavailable_store_fails_no_step(new_recorder, step, ended, monkeypatch):
    """A store that fails while the parent is looked up does not fail the step."""
    recorder = new_recorder()
    monkeypatch.setattr(recorder._transport, "read", lambda key: 1 / 0)
    assert not recorder.finish(ended(step()), recorder.start(step()))
