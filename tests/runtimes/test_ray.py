"""Promises of the runtime `Ray`: a step on a cluster of two nodes, as a job or in an actor."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from pathlib import Path

import psutil
import pytest

from airflow_zen import load
from airflow_zen.errors import StepDefinitionError
from airflow_zen.runtimes import Ray, parse_runtime
from tests.harness import run_dag
from tests.runtimes.pods import step
from tests.runtimes.worker import until

HEADER = """
from datetime import datetime
from airflow.sdk import dag
from airflow_zen import Output, log_metadata, ml_step
import logging, os, sys, tempfile, time

FACTOR = 3

class Missing(Exception):
    pass

def scaled(value: int) -> int:
    return value * FACTOR

def scaled_elsewhere(value: int) -> tuple[int, str]:
    import ray
    return scaled(value), ray.get_runtime_context().get_node_id()
"""

_EXAMPLE = (Path(__file__).parents[2] / "dags_examples/distributed_training.py").read_text()
_BOTH = """

@dag(schedule=None)
def pipeline():
    data = digits()
    for name, step, where in (("ray", train_on_ray, RUNTIME), ("ranks", train, "TorchElastic(2)")):
        learned = step.override(task_id=f"train_{name}", runtime=where)(data.images, data.labels, epochs=5)
        accuracy.override(task_id=f"accuracy_{name}")(learned.weights, data.test_images, data.test_labels)
"""


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory):
    """A cluster of two nodes."""
    pytest.importorskip("ray")
    from tests.servers.ray_cluster import ray_cluster

    with ray_cluster(tmp_path_factory.mktemp("ray")) as running:
        yield running


@pytest.fixture
def run_step(run_file, ray_cluster):
    """Run the DAG of a file with its step on the cluster; return the run."""
    return lambda text, runtime=None, **options: run_file(
        HEADER + text, runtime or Ray(ray_cluster.dashboard), **options
    )


@pytest.fixture
def start_step(start_file, ray_cluster, root):
    """Run the DAG of a file in a task of the worker; return the task."""
    return lambda text: start_file(HEADER + text, Ray(ray_cluster.dashboard))


@pytest.fixture
def jobs(ray_cluster):
    """Return the jobs that the dashboard knows."""
    from ray.job_submission import JobSubmissionClient

    return JobSubmissionClient(ray_cluster.dashboard).list_jobs


def test_options_are_checked_where_they_are_written():
    """A missing address and a number that is none are refused; the text of a runtime names it again."""
    with pytest.raises(StepDefinitionError, match="takes the address of a cluster"):
        Ray("")
    with pytest.raises(StepDefinitionError, match="num_gpus must be a number"):
        Ray("auto", num_gpus=-1)
    runtime = Ray("http://ray:8265", num_cpus=4, memory="2Gi", resources={"tpu": 1}, runtime_env={"pip": ["a"]})
    assert parse_runtime(repr(runtime), "here") == runtime


def test_what_is_installed_on_the_nodes_is_in_the_key():
    """The version and the runtime environment are in the cache key; the address and what is reserved are not."""
    keys = [
        Ray(address, num_cpus=cpus, version=version, runtime_env=packages).ingredients(None, None)["environment"]
        for address, cpus, version, packages in (
            ("auto", 1, "", {}),
            ("http://ray:8265", 2, "", {}),
            ("auto", 1, "2", {}),
            ("auto", 1, "", {"pip": ["a"]}),
        )
    ]
    assert keys[0] == keys[1]
    assert len({*keys}) == 3


@pytest.mark.ml
@pytest.mark.timeout(1200)
class TestCluster:
    """A step on a cluster."""

    def test_a_step_runs_as_a_job(self, run_step, jobs, root, capfd):
        """The function runs on the cluster with this package and the helpers of its file, on both nodes; nothing stays."""
        run = run_step(
            """
@ml_step
def where(value: int) -> Output(package=str, found=list):
    import airflow_zen, ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
    print("a print")
    logging.getLogger("user").warning("a record")
    ray.init()
    call = ray.remote(scaled_elsewhere)
    nodes = [node["NodeID"] for node in ray.nodes()]
    calls = [call.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)) for node in nodes]
    found = ray.get([each.remote(value) for each in calls])
    return airflow_zen.__file__, [value for value, node in found if node in nodes]

@dag(schedule=None)
def pipeline():
    where(2)
"""
        )
        assert run.states == {"where": "success"}, run.tasks[-1].error
        found = {name: load(wire) for name, wire in run.xcom("where").items()}
        assert found["found"] == [6, 6]
        assert "runtime_resources" in found["package"]
        assert "a print" in capfd.readouterr().out
        assert [job for job in jobs() if job.submission_id] == []
        assert not [path for path in (root / "runtimes").rglob("*") if path.is_file()]

    def test_ray_train_in_a_step(self, load_dag_file, root, ray_cluster, tmp_path):
        """Two workers of Ray Train, each on its own node, learn in a step what two ranks of `TorchElastic` learn."""
        runtime = Ray(ray_cluster.dashboard, environment={"HOME": str(tmp_path)})
        text = _EXAMPLE + _BOTH.replace("RUNTIME", repr(repr(runtime)))
        run = run_dag(load_dag_file(text, "distributed_training").pipeline())
        assert set(run.states.values()) == {"success"}, run.tasks[-1].error
        digests = [digest for name in ("ray", "ranks") for digest in load(run.xcom(f"train_{name}", "digests"))]
        assert (len(digests), len(set(digests))) == (4, 1)
        scores = {load(run.xcom(f"accuracy_{name}")) for name in ("ray", "ranks")}
        assert (len(scores), min(scores) > 0.8) == (1, True)

    def test_a_failure_on_another_node_is_the_functions(self, run_step):
        """The error of a task that the function started is of its own type, with the lines of the user's code."""
        run = run_step(
            """
def fails():
    raise KeyError("what is missing")

@ml_step
def work(value: int) -> int:
    import ray
    return ray.get(ray.remote(fails).remote())

@dag(schedule=None)
def pipeline():
    work(2)
"""
        )
        error = run.task("work").error
        assert isinstance(error, KeyError), error
        text = "".join(traceback.format_exception(error))
        assert 'raise KeyError("what is missing")' in text

    def test_what_no_node_has_is_said(self, run_step, ray_cluster, jobs):
        """A step that reserves more than any node has fails with the reason after its time to start; no job runs."""
        run = run_step(step("return value"), Ray(ray_cluster.dashboard, num_gpus=8, startup_timeout=2))
        assert "'num_gpus': 8" in str(run.task("work").error)
        assert "did not start the step within 2 seconds" in str(run.task("work").error)
        # Ray does not stop a job that waits.
        assert {str(job.status) for job in jobs() if job.submission_id} <= {"PENDING"}

    def test_a_process_that_is_killed_is_said(self, run_step):
        """A step whose process gets SIGKILL, as for a lack of memory, fails with these words."""
        run = run_step(step("os.kill(os.getpid(), 9)\nreturn value"))
        assert "lost the step's process to SIGKILL" in str(run.task("work").error)

    def test_a_killed_task_stops_its_job(self, start_step, jobs, tmp_path):
        """SIGTERM of the task reaches the function, which cleans up; no job stays."""
        began, cleaned = tmp_path / "began", tmp_path / "cleaned"
        task = start_step(
            step(f"""
try:
    open({str(began)!r}, "w").close()
    time.sleep(600)
finally:
    open({str(cleaned)!r}, "w").close()
return value""")
        )
        until(began.exists, 240)
        task.kill(signal.SIGTERM)
        until(cleaned.exists)
        until(lambda: not [job for job in jobs() if str(job.status) == "RUNNING"])

    def test_a_killed_worker_leaves_its_job_to_the_next_try(self, run_step, start_step, tmp_path):
        """After kill -9 of the worker the next try waits for the job that runs, and takes its result."""
        calls, go = tmp_path / "calls", tmp_path / "go"
        text = step(f"""
open({str(calls)!r}, "a").write("called ")
while not os.path.exists({str(go)!r}):
    time.sleep(0.05)
return value""")
        task = start_step(text)
        until(calls.exists, 240)
        task.kill()
        threading.Timer(2, go.touch).start()
        run = run_step(text, try_number=2)
        assert run.states == {"work": "success"}, run.task("work").error
        assert calls.read_text() == "called "
        assert load(run.xcom("work")) == 2

    def test_an_address_without_a_dashboard_is_refused(self, run_step):
        """A URL where no dashboard answers is named, and what to check of it; that of the dashboard works."""
        error = run_step(step("return value"), Ray("http://127.0.0.1:1")).task("work").error
        assert "gets no answer from the dashboard" in str(error)
        assert "Check the address, and that this worker reaches it" in str(error)
        assert run_step(step("return value"), run_id="manual__2").states == {"work": "success"}

    def test_a_step_at_the_clusters_own_address_runs_as_a_job(self, run_step, ray_cluster, caplog):
        """Where the dashboard of the cluster answers, an address as for `ray.init` leads to it."""
        runtime = Ray(ray_cluster.address)
        assert run_step(step("return value"), runtime).states == {"work": "success"}
        assert "Running in job " in caplog.text
        assert "Running in an actor " not in caplog.text

    def test_without_a_dashboard_a_step_runs_in_an_actor(self, run_step, ray_cluster):
        """Where the dashboard of the cluster is down the step runs all the same, and its error is its own."""
        for process in psutil.process_iter(["cmdline"]):
            command = process.info["cmdline"] or ()
            if any(part.endswith("dashboard/dashboard.py") for part in command) and ray_cluster.address in " ".join(
                command
            ):
                process.kill()
        text = step("""
print("a print")
if value == 3:
    raise KeyError("what is missing")
import ray
return ray.get(ray.remote(scaled).remote(value))""")
        runtime = Ray(ray_cluster.address, python=sys.executable)
        run = run_step(text, runtime)
        assert run.states == {"work": "success"}, run.task("work").error
        assert load(run.xcom("work")) == 6
        error = run_step(text.replace("work(2)", "work(3)"), runtime).task("work").error
        assert isinstance(error, KeyError), error
