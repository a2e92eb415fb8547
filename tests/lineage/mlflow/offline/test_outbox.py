"""Promises of `airflow_zen.lineage.mlflow.offline`: what a step's own code logs is never lost, and never fails the step."""

import json
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import mlflow
import pytest

from airflow_zen.lineage.mlflow.sync import sync_pending
from tests.lineage.mlflow.step_process import ENVIRONMENT
from tests.servers.flaky import Failure, flaky
from tests.servers.mlflow_server import tracked_at
from tests.servers.process import free_port

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]

# Seconds that no wait of each call, nor MLflow's own trying again for minutes, ends within; a busy machine does.
SOON = 45.0

_LOGGING = """
import mlflow
mlflow.log_metric("auc", 0.5, step=1)
mlflow.log_metric("auc", 0.9, step=2)
mlflow.log_param("depth", 9)
mlflow.log_params({"a": 1, "b": "ü"})
mlflow.set_tag("mood", "good")
mlflow.log_dict({"x": 1}, "facts/x.json")
mlflow.log_text("hello", "hello.txt")
with mlflow.start_run(nested=True, run_name="fold"):
    mlflow.log_metric("loss", 1.5)
    mlflow.log_text("y", "y.txt")
"""


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    """One process lives through many steps, each with a recorder of its own: importing MLflow takes seconds."""
    command = [sys.executable, "-m", "tests.lineage.mlflow.step_process"]
    directory = tmp_path_factory.mktemp("task")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=ENVIRONMENT, cwd=directory, **pipes) as started:
        yield started
        started.stdin.close()
    assert list(directory.iterdir()) == []


@pytest.fixture
def live(process, root, dag_id):
    """Live through one step whose function is `code`; give whether all was delivered, the seconds, and its `seen`."""

    def go(uri, code, dag_id=dag_id, **options):
        began = time.monotonic()
        process.stdin.write(json.dumps([uri, root, dag_id, code, options]) + "\n")
        process.stdin.flush()
        _, delivered, error, seen = json.loads(process.stdout.readline())
        assert error == ""
        return delivered, time.monotonic() - began, seen

    return go


@pytest.fixture
def proxy(server):
    with flaky(server.port) as running:
        yield running


@pytest.fixture
def runs_of(client):
    """Return the one run of the step, and those under it by name."""

    def look(dag_id):
        experiment = client.get_experiment_by_name(f"airflow/{dag_id}").experiment_id
        (run,) = client.search_runs([experiment], "tags.`zen.kind` = 'step'")
        return run, client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")

    return look


@pytest.fixture
def away():
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
def sync(new_recorder, records, root):
    """Deliver what is owed, and see that nothing is left of it in the store."""

    def deliver_pending(uri=None):
        assert not sync_pending(new_recorder(uri) if uri else new_recorder(), records, time.time).failed
        assert list(records.undelivered()) == []
        assert list(Path(root, ".staging").glob("*zen-step-*")) == []

    return deliver_pending


def assert_whole(client, run, nested):
    assert (run.info.status, run.info.end_time) == ("FINISHED", 1_700_000_009_000)
    assert [(m.value, m.step) for m in client.get_metric_history(run.info.run_id, "auc")] == [(0.5, 1), (0.9, 2)]
    assert run.data.params == {"depth": "8", "logged.depth": "9", "a": "1", "b": "ü"}
    assert run.data.tags["mood"] == "good"
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"facts", "hello.txt"}
    (fold,) = nested
    assert (fold.info.run_name, fold.data.metrics["loss"], fold.info.status) == ("fold", 1.5, "FINISHED")
    assert [file.path for file in client.list_artifacts(fold.info.run_id)] == ["y.txt"]


@contextmanager
def unreachable():
    yield f"http://127.0.0.1:{free_port()}"


@contextmanager
def silent():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def unauthorized():
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(401)

        def do_GET(self):
            self.send_error(401)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("outage", [unreachable, silent, unauthorized])
def test_mlflow_is_away_from_the_start(client, live, sync, runs_of, dag_id, outage):
    """A step that never saw MLflow succeeds after one wait at most; all that it logged arrives later, once."""
    with outage() as uri:
        delivered, seconds, _ = live(uri, _LOGGING)
    assert (delivered, seconds < SOON) == (False, True)
    for _ in range(2):
        sync()
        assert_whole(client, *runs_of(dag_id))


def test_many_calls_to_a_silent_server(client, live, sync, runs_of, dag_id):
    """A server that accepts connections and says nothing costs one wait, however often the step logs; all arrives."""
    code = """
import mlflow
for i in range(0, 50, 3):
    mlflow.log_metric("m", i, step=i)
    mlflow.log_param(f"p{i}", i)
    if i < 48:
        mlflow.set_tag(f"t{i}", i)
"""
    with silent() as uri:
        delivered, seconds, _ = live(uri, code)
    assert (delivered, seconds < SOON) == (False, True)
    sync()
    run, _ = runs_of(dag_id)
    history = client.get_metric_history(run.info.run_id, "m")
    params = {key: value for key, value in run.data.params.items() if key.startswith("p")}
    tags = {key: value for key, value in run.data.tags.items() if key.startswith("t")}
    assert [metric.value for metric in history] == [*range(0, 50, 3)]
    assert params == {f"p{i}": str(i) for i in range(0, 50, 3)}
    assert tags == {f"t{i}": str(i) for i in range(0, 48, 3)}
    assert len(history) + len(params) + len(tags) == 50


@pytest.mark.slow
@pytest.mark.parametrize("failure", list(Failure))
def test_mlflow_dies_at_any_request(client, proxy, live, sync, runs_of, dag_id, failure):
    """The server dies before or after any request of a step that logs for itself: nothing is lost or doubled."""
    kinds = list(Failure)
    for number in range(kinds.index(failure), 60, len(kinds)):
        name = f"{dag_id}_{number}"
        proxy.arm(number, failure)
        _, seconds, _ = live(proxy.uri, _LOGGING, name)
        assert seconds < SOON
        reached = proxy.requests > number
        proxy.heal()
        sync(proxy.uri)
        assert_whole(client, *runs_of(name))
        if not reached:
            return
    raise AssertionError("more requests than expected")


def test_a_logged_model(client, away, live, sync, runs_of, dag_id):
    """A model that user code logs while MLflow is away is there later, linked to the step's run, and can be loaded."""
    code = """
import mlflow
from sklearn.linear_model import LinearRegression
model = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
info = mlflow.sklearn.log_model(model, name="line", params={"p": 1}, pip_requirements=["scikit-learn"])
mlflow.log_metric("r2", 1.0, model_id=info.model_id)
"""
    live(away, code)
    sync()
    run, _ = runs_of(dag_id)
    (found,) = client.search_logged_models([run.info.experiment_id])
    assert (found.name, found.params["p"], str(found.status)) == ("line", "1", "READY")
    assert found.source_run_id == run.info.run_id
    assert [(metric.key, metric.value) for metric in found.metrics] == [("r2", 1.0)]
    with tracked_at(client.tracking_uri):
        loaded = mlflow.pyfunc.load_model(f"models:/{found.model_id}")
    assert loaded.predict([[3.0]]) == pytest.approx([6.0])
    assert loaded.metadata.model_id == found.model_id


@pytest.mark.parametrize("outage", [None, unreachable])
def test_autologging(client, server, live, sync, runs_of, dag_id, outage):
    """What autologging logs is in the step's run, and the runs that it begins are under that, with MLflow away too."""
    code = """
import mlflow
import numpy as np
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
mlflow.sklearn.autolog(silent=True, log_models=False)
try:
    table = np.arange(4.0).reshape(4, 1)
    GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2).fit(table, 2 * table[:, 0])
finally:
    mlflow.sklearn.autolog(disable=True)
"""
    with outage() if outage else nullcontext(server.uri) as uri:
        live(uri, code)
    sync()
    run, nested = runs_of(dag_id)
    assert (run.info.status, run.data.params["best_alpha"]) == ("FINISHED", "0.1")
    assert run.data.metrics["best_cv_score"] > 0.5
    assert sorted(fold.data.params["alpha"] for fold in nested) == ["0.1", "1.0"]


def test_another_experiment(client, away, live, sync, dag_id):
    """A run that user code starts in an experiment of its own while MLflow is away arrives there."""
    mine = f"mine-{dag_id}"
    client.create_experiment(mine)
    code = f"""
import os, mlflow
from mlflow import MlflowClient
client = MlflowClient()
found = client.get_experiment_by_name({mine!r})
experiment = found.experiment_id if found else client.create_experiment({mine!r})
run = client.create_run(experiment, run_name="own")
client.log_metric(run.info.run_id, "m", 3.0)
client.set_terminated(run.info.run_id)
seen = client.get_run(run.info.run_id).data.metrics
"""
    assert live(away, code, respect_set_experiment=True)[2] == {"m": 3.0}
    sync()
    (run,) = client.search_runs([client.get_experiment_by_name(mine).experiment_id])
    assert (run.info.run_name, run.data.metrics, run.info.status) == ("own", {"m": 3.0}, "FINISHED")


def test_what_only_the_server_knows(away, live):
    """A question that only the server could answer raises MLflow's error, which names the remedy."""
    code = """
import mlflow
try:
    mlflow.search_runs(["0"])
except mlflow.MlflowException as error:
    seen = str(error)
"""
    assert "runs/search' needs its answer" in live(away, code)[2]


def test_a_mistake_is_told_at_once(server, live):
    """What MLflow refuses because it is wrong fails the step there and then, as without us."""
    code = """
import mlflow
mlflow.log_param("p", 1)
try:
    mlflow.log_param("p", 2)
except mlflow.MlflowException as error:
    seen = str(error)
"""
    delivered, _, seen = live(server.uri, code)
    assert delivered
    assert "already logged" in seen


def test_a_mistake_made_while_mlflow_was_away(client, away, live, sync, runs_of, records, root, dag_id):
    """A call that MLflow refuses later is set aside where one can read it, and the others arrive."""
    live(
        away, "import mlflow; mlflow.log_params({'p': 1, 'q': 2}); mlflow.log_param('p', 3); mlflow.log_metric('m', 1)"
    )
    sync()
    run, _ = runs_of(dag_id)
    assert run.data.params == {"p": "1", "q": "2", "depth": "8"}
    assert run.data.metrics["m"] == 1
    (aside,) = Path(root).glob("runs/*/*/outbox/*/*.refused.jsonl")
    (refused,) = map(json.loads, aside.read_text().splitlines())
    assert (refused["body"]["key"], refused["body"]["value"]) == ("p", "3")


def test_a_mistake_in_a_batch(client, away, live, sync, runs_of, root, dag_id):
    """Of metrics, parameters and tags that are logged together only the one that MLflow refuses is set aside."""
    code = """
import mlflow
from mlflow.entities import Metric, Param, RunTag
mlflow.log_param("p", 1)
metrics = [Metric("a", 1.0, 0, 0), Metric("b", 2.0, 0, 0)]
params, tags = [Param("p", "3"), Param("r", "4")], [RunTag("mood", "good")]
mlflow.MlflowClient().log_batch(mlflow.active_run().info.run_id, metrics, params, tags)
"""
    live(away, code)
    sync()
    data = runs_of(dag_id)[0].data
    assert data.params == {"p": "1", "r": "4", "depth": "8"}
    assert (data.metrics["a"], data.metrics["b"], data.tags["mood"]) == (1.0, 2.0, "good")
    (aside,) = Path(root).glob("runs/*/*/outbox/*/*.refused.jsonl")
    (refused,) = map(json.loads, aside.read_text().splitlines())
    assert refused["body"]["params"] == [{"key": "p", "value": "3"}]


def test_processes_that_a_step_starts(client, away, live, sync, runs_of, dag_id):
    """What processes that a step starts log arrives too."""
    code = """
import subprocess, sys
code = "import mlflow; mlflow.log_metric('child', 1.0)"
subprocess.run([sys.executable, "-c", code], check=True, stdout=sys.stderr)
"""
    live(away, code)
    sync()
    assert runs_of(dag_id)[0].data.metrics["child"] == 1.0


def test_threads_that_a_step_starts(client, server, live, runs_of, dag_id):
    """What threads of a step log at the same time arrives."""
    code = """
import mlflow
from concurrent.futures import ThreadPoolExecutor
from mlflow import MlflowClient
run_id = mlflow.start_run().info.run_id
with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda step: MlflowClient().log_metric(run_id, "m", step, step=step), range(24)))
"""
    assert live(server.uri, code)[0]
    run, _ = runs_of(dag_id)
    assert sorted(metric.step for metric in client.get_metric_history(run.info.run_id, "m")) == [*range(24)]


def test_files_that_the_server_stores(client, server, live, dag_id):
    """Files of an experiment whose files MLflow's server stores are written and read in a step, and by the relay."""
    code = f"""
import os
from urllib.request import Request, urlopen
import mlflow
from mlflow import MlflowClient
client = MlflowClient()
run_id = client.create_run(client.create_experiment("files-{dag_id}")).info.run_id
client.log_text(run_id, "hello", "words/hello.txt")
uri = client.get_run(run_id).info.artifact_uri
path = os.environ["AIRFLOW_ZEN_MLFLOW_RELAY"].split()[1] + "/api/2.0/mlflow-artifacts/artifacts/" + uri.split(":/")[1]
urlopen(Request(path + "/raw.bin", data=bytes(range(256)), method="PUT")).close()
with urlopen(path + "/raw.bin") as answer:
    raw = list(answer.read())
seen = [run_id, uri, mlflow.artifacts.load_text(uri + "/words/hello.txt"), raw]
"""
    delivered, _, (run_id, uri, text, raw) = live(server.uri, code, respect_set_experiment=True)
    assert (delivered, text, raw) == (True, "hello", [*range(256)])
    assert uri.startswith("mlflow-artifacts:/")
    assert {file.path for file in client.list_artifacts(run_id)} == {"words", "raw.bin"}


@pytest.mark.parametrize("outage", [None, unreachable])
def test_links_that_mlflow_prints(server, live, outage):
    """A link to a run leads to MLflow's server, never to the relay; there is none while the run has no id in MLflow."""
    code = """
import contextlib, io, os, mlflow
with contextlib.redirect_stdout(io.StringIO()) as printed, mlflow.start_run() as run:
    mlflow.log_metric("m", 1)
with contextlib.redirect_stdout(printed), mlflow.start_run(run_name="own") as own:
    pass
relay = os.environ["AIRFLOW_ZEN_MLFLOW_RELAY"].split()[1]
seen = [printed.getvalue(), relay, [f"{each.info.experiment_id}/runs/{each.info.run_id}" for each in (run, own)]]
"""
    with outage() if outage else nullcontext(server.uri) as uri:
        printed, relay, runs = live(uri, code)[2]
    assert [f"{uri}/#/experiments/{run}" in printed for run in runs] == [outage is None] * 2
    assert not any(part in printed for part in relay.rsplit("/", 1))
