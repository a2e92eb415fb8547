"""Promises of `airflow_zen.lineage.mlflow.offline`: what MLflow's API does in a step lands in or under the step's run."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from textwrap import dedent

import pytest

from airflow_zen.lineage.mlflow.sync import sync_pending
from tests.lineage.mlflow.step_process import ENVIRONMENT
from tests.servers.process import free_port

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]

THERE, AWAY = "MLflow is there", "MLflow is away and comes back"


@dataclass(frozen=True)
class Logged:
    """What a run shows of the user's values, and the runs under it; unnamed runs are called "?"."""

    metrics: dict = field(default_factory=dict)
    params: dict = field(default_factory=dict)
    under: dict = field(default_factory=dict)


def trials(count, name="trial{}"):
    return {name.format(i): Logged({"loss": float(i)}, {"lr": str(i)}) for i in range(count)}


CASES = {
    "parameters with the names of the step's": (
        """
        mlflow.log_param("rows", 5)
        mlflow.log_param("depth", 8)
        mlflow.log_params({"depth": 3, "lr": 0.1})
        with mlflow.start_run(nested=True, run_name="trial"):
            mlflow.log_param("depth", 4)
        mlflow.log_param("depth", 3)
        """,
        Logged(params={"rows": "5", "lr": "0.1", "logged.depth": "3"}, under={"trial": Logged()}),
    ),
    "a loop of nested trials": (
        """
        for i in range(3):
            with mlflow.start_run(nested=True, run_name=f"trial{i}"):
                mlflow.log_param("lr", i)
                mlflow.log_metric("loss", i)
        mlflow.log_metric("best", 0)
        """,
        Logged({"best": 0.0}, under=trials(3)),
    ),
    "nested trials without names": (
        """
        for i in range(2):
            with mlflow.start_run(nested=True):
                mlflow.log_param("lr", i)
        """,
        Logged(under={"?0": Logged(params={"lr": "0"}), "?1": Logged(params={"lr": "1"})}),
    ),
    "trials that are not nested": (
        """
        for i in range(2):
            with mlflow.start_run(run_name=f"trial{i}"):
                mlflow.log_params({"lr": i})
                mlflow.log_metric("loss", i)
        """,
        Logged(under=trials(2)),
    ),
    "a run, then plain values": (
        """
        with mlflow.start_run():
            mlflow.log_param("layers", 3)
        mlflow.log_metric("after", 1)
        mlflow.end_run()
        mlflow.set_tag("kind", "plain")
        mlflow.log_metric("later", 2)
        """,
        Logged({"after": 1.0, "later": 2.0}, {"layers": "3"}),
    ),
    "several runs without names": (
        """
        for i in range(2):
            with mlflow.start_run():
                mlflow.log_param("lr", i)
        """,
        Logged(params={"lr": "0"}, under={"?0": Logged(params={"lr": "1"})}),
    ),
    "three levels": (
        """
        with mlflow.start_run(run_name="search"):
            with mlflow.start_run(run_name="trial", nested=True):
                with mlflow.start_run(run_name="fold", nested=True):
                    mlflow.log_metric("loss", 1)
        """,
        Logged(under={"search": Logged(under={"trial": Logged(under={"fold": Logged({"loss": 1.0})})})}),
    ),
    "threads": (
        """
        from concurrent.futures import ThreadPoolExecutor
        def log(i):
            mlflow.log_metric(f"thread{i}", i)
        def trial(i):
            with mlflow.start_run(run_name=f"trial{i}"):
                mlflow.log_param("lr", i)
                mlflow.log_metric("loss", i)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(log, range(4)))
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(trial, range(3)))
        """,
        Logged({f"thread{i}": float(i) for i in range(4)}, under=trials(3)),
    ),
    "processes": (
        """
        from joblib import Parallel, delayed
        def trial(i):
            import mlflow
            mlflow.log_metric(f"process{i}", i)
            with mlflow.start_run(nested=True, run_name=f"trial{i}"):
                mlflow.log_param("lr", i)
                mlflow.log_metric("loss", i)
        Parallel(n_jobs=2)(delayed(trial)(i) for i in range(2))
        """,
        Logged({"process0": 0.0, "process1": 1.0}, under=trials(2)),
    ),
    "a pool of processes": (
        """
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        trial = '''if True:
            import mlflow
            mlflow.log_metric("{method}", 1)
            with mlflow.start_run(nested=True, run_name="trial{number}"):
                mlflow.log_param("lr", {number})
                mlflow.log_metric("loss", {number})
        '''
        for number, method in enumerate(("fork", "spawn")):
            with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
                pool.submit(exec, trial.format(method=method, number=number)).result()
        """,
        Logged({"fork": 1.0, "spawn": 1.0}, under=trials(2)),
    ),
    "a script that the step starts": (
        """
        import subprocess, sys
        script = '''import mlflow; mlflow.set_experiment("mine"); mlflow.start_run(run_name="script"); mlflow.log_metric("x", 1)'''
        subprocess.run([sys.executable, "-c", script], check=True)
        """,
        Logged(under={"script": Logged({"x": 1.0})}),
    ),
    "a program of an environment without this package": (
        """
        import os, pathlib, subprocess, sys, sysconfig, tempfile
        script = '''if True:
            import importlib.metadata, mlflow
            assert "airflow-provider-zen" not in {each.name for each in importlib.metadata.distributions()}
            mlflow.set_experiment("mine")
            mlflow.log_metric("x", 1)
            with mlflow.start_run(nested=True, run_name="trial0"):
                mlflow.log_param("lr", 0)
                mlflow.log_metric("loss", 0)
        '''
        with tempfile.TemporaryDirectory() as site:
            for installed in pathlib.Path(sysconfig.get_paths()["purelib"]).iterdir():
                if "airflow" not in installed.name:
                    pathlib.Path(site, installed.name).symlink_to(installed)
            elsewhere = {"PYTHONPATH": os.environ["PYTHONPATH"] + os.pathsep + site}
            subprocess.run([sys.executable, "-S", "-c", script], check=True, env={**os.environ, **elsewhere})
        mlflow.log_metric("y", 2)
        """,
        Logged({"x": 1.0, "y": 2.0}, under=trials(1)),
    ),
    "a program that is given the address": (
        """
        import airflow_zen, os, subprocess, sys, sysconfig
        script = '''if True:
            import importlib.util, mlflow
            assert importlib.util.find_spec("airflow_zen") is None
            mlflow.log_metric("x", 1)
            with mlflow.start_run(nested=True, run_name="trial0"):
                mlflow.log_param("lr", 0)
                mlflow.log_metric("loss", 0)
        '''
        elsewhere = {**airflow_zen.mlflow_environment(), "PYTHONPATH": sysconfig.get_paths()["purelib"]}
        subprocess.run([sys.executable, "-S", "-c", script], check=True, env={**os.environ, **elsewhere})
        mlflow.log_metric("y", 2)
        """,
        Logged({"x": 1.0, "y": 2.0}, under=trials(1)),
    ),
    "an experiment of the code's own": (
        """
        mlflow.set_experiment("mine")
        mlflow.log_metric("auc", 1)
        with mlflow.start_run(nested=True, run_name="fold"):
            mlflow.log_metric("auc", 2)
        mlflow.set_experiment(experiment_id="0")
        mlflow.log_metric("f1", 3)
        """,
        Logged({"auc": 1.0, "f1": 3.0}, under={"fold": Logged({"auc": 2.0})}),
    ),
    "the client API": (
        """
        client = mlflow.MlflowClient()
        run = client.create_run("0", run_name="mine")
        client.log_metric(run.info.run_id, "auc", 1)
        client.create_run("0", tags={"mlflow.parentRunId": run.info.run_id}, run_name="child")
        client.set_terminated(run.info.run_id)
        """,
        Logged(under={"mine": Logged({"auc": 1.0}, under={"child": Logged()})}),
    ),
    "runs left open": (
        """
        mlflow.start_run()
        mlflow.start_run(nested=True, run_name="a")
        mlflow.start_run(nested=True, run_name="b")
        import threading
        thread = threading.Thread(target=lambda: mlflow.start_run(run_name="c"))
        thread.start()
        thread.join()
        """,
        Logged(under={"a": Logged(under={"b": Logged()}), "c": Logged()}),
    ),
}

# These start interpreters, which import MLflow in seconds, and all speak with the step's relay: each in one way.
_PROGRAMS = {
    "processes": AWAY,
    "a pool of processes": THERE,
    "a script that the step starts": THERE,
    "a program of an environment without this package": AWAY,
    "a program that is given the address": AWAY,
}


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    """One process for many steps: importing MLflow takes seconds, and no step may leave anything to the next."""
    directory = tmp_path_factory.mktemp("task")
    command = [sys.executable, "-m", "tests.lineage.mlflow.step_process"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=ENVIRONMENT, cwd=directory, **pipes) as started:
        yield started
        started.stdin.close()
    assert list(directory.iterdir()) == []


@pytest.fixture(params=[THERE, AWAY])
def go(request, server, process, root, dag_id, new_recorder, records):
    """Run code as a step's function, and deliver to MLflow what is owed; return the code's `seen`."""

    def run(code, dag_id=dag_id, **options):
        uri = server.uri if request.param == THERE else f"http://127.0.0.1:{free_port()}"
        process.stdin.write(json.dumps([uri, root, dag_id, "import mlflow\n" + dedent(code), options]) + "\n")
        process.stdin.flush()
        _, delivered, error, seen = json.loads(process.stdout.readline())
        assert error == ""
        # A server that answers late, as on a busy machine, gets the rest from `sync_pending`.
        assert not (delivered and request.param == AWAY)
        assert not sync_pending(new_recorder(), records, time.time).failed
        return seen

    return run


@pytest.fixture
def runs(client, dag_id):
    """Return the runs of a DAG's experiment."""
    return lambda dag_id=dag_id: client.search_runs([client.get_experiment_by_name(f"airflow/{dag_id}").experiment_id])


def logged(run, runs):
    """Describe a run and those under it."""
    own = {name: value for name, value in run.data.metrics.items() if not name.startswith("zen.")}
    params = {name: value for name, value in run.data.params.items() if name != "depth"}
    children = [each for each in runs if each.data.tags.get("mlflow.parentRunId") == run.info.run_id]
    children.sort(key=lambda each: each.info.start_time)
    generated = [each for each in children if "-" in each.info.run_name]
    names = {each.info.run_id: f"?{place}" for place, each in enumerate(generated)}
    under = {names.get(each.info.run_id, each.info.run_name): logged(each, runs) for each in children}
    return Logged(own, params, under)


@pytest.mark.parametrize(
    ("go", "case"),
    [(server, case) for case in CASES for server in (THERE, AWAY) if _PROGRAMS.get(case, server) == server],
    indirect=["go"],
)
def test_fluent_api(go, runs, dag_id, case):
    """Each run and value is in or under the step's run, which keeps its name; no run is elsewhere or left open."""
    code, expected = CASES[case]
    go(code)
    found = runs()
    (step,) = [run for run in found if run.data.tags.get("zen.kind") == "step"]
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    assert logged(step, found) == expected
    assert (step.info.run_name, step.data.tags["mlflow.parentRunId"]) == ("train", parent.info.run_id)
    assert {run.info.status for run in found if run is not parent} == {"FINISHED"}
    if case != "the client API":
        assert {run.data.tags["mlflow.source.name"] for run in found if run is not parent} == {
            f"airflow://{dag_id}/train"
        }


def test_next_step_in_the_process(go, runs, dag_id):
    """A step that sets an experiment, a server and leaves runs open leaves nothing to the next step of the process."""
    go("mlflow.set_experiment('mine'); mlflow.start_run(); mlflow.start_run(nested=True); mlflow.autolog(disable=True)")
    go("mlflow.set_tracking_uri('http://127.0.0.1:9')", dag_id=f"{dag_id}_2")
    go("mlflow.log_metric('auc', 1)", dag_id=f"{dag_id}_3")
    (run,) = [run for run in runs(f"{dag_id}_3") if "auc" in run.data.metrics]
    assert run.data.tags["zen.kind"] == "step"
    assert not any("auc" in run.data.metrics for run in runs())


def test_traces(go, client, dag_id):
    """Traces are in the experiment of the DAG, with their spans, and linked to the step's run."""
    go(
        """
        @mlflow.trace
        def inner(x):
            return x
        @mlflow.trace
        def outer(x):
            return inner(x)
        mlflow.set_experiment("mine")
        outer(1)
        """
    )
    experiment = client.get_experiment_by_name(f"airflow/{dag_id}").experiment_id
    (step,) = client.search_runs([experiment], "tags.`zen.kind` = 'step'")
    (trace,) = client.search_traces(locations=[experiment])
    assert trace.info.trace_metadata["mlflow.sourceRun"] == step.info.run_id
    assert [span.name for span in trace.data.spans] == ["outer", "inner"]


def test_respect_set_experiment(go, client, dag_id):
    """With `respect_set_experiment` new runs are in the experiment that the code names, under the step's run."""
    own = f"own-{dag_id}"
    go(
        f"""
        mlflow.set_experiment("{own}")
        mlflow.log_metric("auc", 1)
        with mlflow.start_run(nested=True, run_name="fold"):
            mlflow.log_metric("auc", 2)
        """,
        respect_set_experiment=True,
    )
    experiment = client.get_experiment_by_name(f"airflow/{dag_id}").experiment_id
    (step,) = client.search_runs([experiment], "metrics.auc = 1")
    (fold,) = client.search_runs([client.get_experiment_by_name(own).experiment_id])
    assert step.data.tags["zen.kind"] == "step"
    assert (fold.info.run_name, fold.data.tags["mlflow.parentRunId"]) == ("fold", step.info.run_id)
