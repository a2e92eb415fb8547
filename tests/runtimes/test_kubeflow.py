"""Promises of the runtimes `TrainJob` and `PyTorchJob`: a step in a training job of the cluster of tests."""

from __future__ import annotations

import json
import signal
import sys
import threading
import traceback
from pathlib import Path

import pytest

from airflow_zen import load
from airflow_zen.config.settings import open_stack
from airflow_zen.errors import StepDefinitionError
from airflow_zen.lineage.mlflow.offline import write_package
from airflow_zen.runs.step_run import RANK_SAMPLES
from airflow_zen.runtimes import PyTorchJob, TrainJob, parse_runtime
from tests.runtimes.pods import DIGEST, FULL_IMAGE, SUM, _path, step
from tests.runtimes.training_operator import training_operator
from tests.runtimes.worker import until
from tests.servers.kubernetes import Image

IMAGE = f"registry.test/launcher@{DIGEST}"
BOTH = pytest.mark.parametrize("kind", [TrainJob, PyTorchJob])
# What torch's launcher does for one process on each node; the tests that are marked `ml` have torch's own.
_LAUNCHER = """
import os, runpy, sys
nodes, rank = os.environ["PET_NNODES"], os.environ["PET_NODE_RANK"]
os.environ |= {"RANK": rank, "LOCAL_RANK": "0", "WORLD_SIZE": nodes}
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def operator(cluster, tmp_path, small_python):
    """Kubeflow's controllers, and an image with a launcher."""
    package = Path(write_package(tmp_path / "launcher"))
    (package / "torch/distributed").mkdir(parents=True)
    (package / "torch/distributed/run.py").write_text(_LAUNCHER)
    cluster.node.images[IMAGE] = Image(
        IMAGE, DIGEST, environment={"PATH": _path(small_python), "PYTHONPATH": str(package)}
    )
    with training_operator(cluster) as running:
        yield running


def nothing_stays(operator, api, root):
    """Whether the cluster has no jobs, pods and secrets, and the artifact root no specs and no checkpoints."""
    until(lambda: not api.list_namespaced_pod("default").items)
    return (
        not list(operator.jobs())
        and not api.list_namespaced_secret("default").items
        and not [path for name in ("runtimes", "checkpoints") for path in (root / name).rglob("*") if path.is_file()]
    )


def rank_usage():
    """Return the processor time of each rank in the record of the step, in seconds; each has a curve of its memory."""
    facts = open_stack(lineage=False).records.latest_try("pipeline", "manual__1", "work").metadata
    found = {int(name.split("/")[1][5:]): value for name, value in facts[""].items() if name.endswith("/cpu_seconds")}
    assert {f"system/rank_{rank}/memory_megabytes" for rank in found} <= set(facts[RANK_SAMPLES])
    assert min(found.values()) > 0
    return found


@BOTH
def test_a_step_runs_on_all_nodes(run_pod, operator, api, root, capfd, kind, tmp_path):
    """Each node calls the function and says what it used; the first one's value is the step's. Nothing stays."""
    text = step(f"""
from airflow_zen import checkpoint
checkpoint().save(value, step=1)
rank = int(os.environ["RANK"])
open(os.path.join({str(tmp_path)!r}, f"rank-{{rank}}"), "w").close()
print("a print of", rank)
return scaled(value) if rank == 0 else None""")
    run = run_pod(text, kind(IMAGE, num_nodes=2))
    assert run.states == {"work": "success"}, run.task("work").error
    assert load(run.xcom("work")) == 6
    assert {path.name for path in tmp_path.glob("rank-*")} == {"rank-0", "rank-1"}
    assert "a print of 0" in capfd.readouterr().out
    assert set(rank_usage()) == {0, 1}
    assert nothing_stays(operator, api, root)


@BOTH
def test_the_job_is_as_the_user_describes_it(run_pod, operator, api, kind, monkeypatch):
    """Resources, parts of pods, secrets and overrides are in the manifest; credentials are in a secret of the job."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hidden")
    api.create_namespaced_secret("default", {"metadata": {"name": "team"}, "stringData": {"word": "hello"}})
    runtime = kind(
        IMAGE,
        cpu=1,
        memory=("1Gi", "2Gi"),
        gpu=1,
        gpu_resource="amd.com/gpu",
        environment={"COLOR": "red"},
        secrets={"WORD": "team/word"},
        node_selector={"kubernetes.io/os": "linux"},
        volumes=[{"name": "shared", "emptyDir": {}}],
        volume_mounts=[{"name": "shared", "mountPath": "/mnt/shared"}],
        overrides={"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "ml"}}},
        on_finish_action="keep_job",
    )
    names = ("WORD", "COLOR", "MLFLOW_TRACKING_PASSWORD")
    run = run_pod(step(f"print([os.environ[name] for name in {names}])\nreturn value"), runtime)
    assert run.states == {"work": "success"}, run.task("work").error
    ((_, job),) = operator.jobs()
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "ml"
    assert "hidden" not in json.dumps(job)
    (pod,) = api.list_namespaced_pod("default").items
    (container,) = pod.spec.containers
    assert container.resources.limits == {"cpu": "1", "memory": "1Gi", "amd.com/gpu": "1"}
    assert (pod.spec.node_selector, container.volume_mounts[0].name) == ({"kubernetes.io/os": "linux"}, "shared")
    log = api.read_namespaced_pod_log(pod.metadata.name, "default", _preload_content=False).data.decode()
    assert "['hello', 'red', 'hidden']" in log


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        (TrainJob(IMAGE, overrides={"spec": {"trainer": {"numNode": 2}}}), "spec.trainer.numNode"),
        (PyTorchJob(IMAGE, overrides={"spec": {"runPolicy": {"cleanPods": "All"}}}), "spec.runPolicy.cleanPods"),
        (TrainJob(IMAGE, overrides={"spec": {"trainer": {"numNodes": "two"}}}), "spec.trainer.numNodes"),
    ],
)
def test_the_schema_of_the_cluster_is_strict(run_pod, operator, root, runtime, said):
    """An unknown field, or one of another type, fails the step with its path; there is no job."""
    run = run_pod(SUM, runtime)
    assert said in str(run.task("total").error)
    assert operator.created == []
    assert not [path for path in (root / "runtimes").rglob("*") if path.is_file()]


@BOTH
def test_the_error_of_any_node_is_the_steps(run_pod, operator, api, root, kind):
    """The rank that fails first fails the step with its own error, although the others are ended then."""
    text = step("""
if os.environ["RANK"] == "1":
    raise KeyError("what is missing")
time.sleep(300)
return value""")
    error = run_pod(text, kind(IMAGE, num_nodes=2)).task("work").error
    assert isinstance(error, KeyError), error
    assert error.args == ("what is missing",)
    assert 'raise KeyError("what is missing")' in "".join(traceback.format_exception(error))
    assert nothing_stays(operator, api, root)


def test_the_next_try_goes_on_from_the_last_checkpoint(run_pod, operator, api, root, tmp_path):
    """After the first node was lost all ranks of the next try find what it has saved; after the success nothing stays."""
    text = step(f"""
from airflow_zen import checkpoint
ckpt, rank = checkpoint(), os.environ["RANK"]
state = ckpt.latest()
open(os.path.join({str(tmp_path)!r}, f"rank-{{rank}}"), "w").write(str(state))
if state is None:
    ckpt.save(value + 5, step=1)
    if rank == "0":
        os.kill(os.getpid(), 9)
    time.sleep(300)
return state""")
    assert run_pod(text, TrainJob(IMAGE, num_nodes=2)).states == {"work": "failed"}
    assert list(open_stack(lineage=False).store.transport.list("checkpoints"))
    run = run_pod(text, TrainJob(IMAGE, num_nodes=2), try_number=2)
    assert run.states == {"work": "success"}, run.task("work").error
    assert load(run.xcom("work")) == 7
    assert {path.name: path.read_text() for path in tmp_path.glob("rank-*")} == {"rank-0": "7", "rank-1": "7"}
    assert nothing_stays(operator, api, root)


def test_a_job_without_an_answer_is_explained(run_pod, operator):
    """A job whose process was killed fails the step with what the cluster says, and with the last lines."""
    error = run_pod(step("print('so far')\nos.kill(os.getpid(), 9)\nreturn value"), TrainJob(IMAGE)).task("work").error
    assert "ended job" in str(error)
    assert "a pod has failed" in str(error)
    assert "so far" in error.__notes__[0]


def test_a_job_without_pods_is_given_up(run_pod, operator):
    """A job whose first pod does not run in time fails the step, and does not stay."""
    operator.paused = True
    error = run_pod(SUM, PyTorchJob(IMAGE, startup_timeout=1)).task("total").error
    assert "did not start the first pod" in str(error)
    assert list(operator.jobs()) == []


def test_a_cluster_without_kubeflow_is_refused(run_pod, cluster):
    """Without the custom resource definition the error says what to install."""
    cluster.resources.kinds[:] = [kind for kind in cluster.resources.kinds if kind.plural != "trainjobs"]
    error = run_pod(SUM, TrainJob(IMAGE)).task("total").error
    assert "finds no trainjobs.trainer.kubeflow.org/v1alpha1 in the cluster" in str(error)


def test_a_killed_task_deletes_its_job(start_task, operator, api, root, tmp_path):
    """SIGTERM of the task reaches the function, which cleans up; nothing stays."""
    began, cleaned = tmp_path / "began", tmp_path / "cleaned"
    text = step(f"""
try:
    open({str(began)!r}, "w").close()
    time.sleep(300)
finally:
    open({str(cleaned)!r}, "w").close()
return value""")
    task = start_task(text, TrainJob(IMAGE))
    until(began.exists)
    task.kill(signal.SIGTERM)
    until(cleaned.exists)
    assert nothing_stays(operator, api, root)


def test_a_killed_worker_leaves_its_job_to_the_next_try(run_pod, start_task, operator, tmp_path):
    """After kill -9 of the worker the next try waits for the job that runs, and takes its result."""
    calls, go = tmp_path / "calls", tmp_path / "go"
    text = step(f"""
open({str(calls)!r}, "a").write("called ")
while not os.path.exists({str(go)!r}):
    time.sleep(0.05)
return value""")
    task = start_task(text, TrainJob(IMAGE))
    until(calls.exists)
    task.kill()
    threading.Timer(2, go.touch).start()
    run = run_pod(text, TrainJob(IMAGE), try_number=2)
    assert run.states == {"work": "success"}, run.task("work").error
    assert (calls.read_text(), len(operator.created)) == ("called ", 1)


def test_a_job_of_other_code_is_replaced(run_pod, start_task, operator, tmp_path):
    """A job that a killed worker left is deleted when the step has changed since."""
    calls = tmp_path / "calls"
    task = start_task(
        step(f"open({str(calls)!r}, 'a').write('first ')\ntime.sleep(300)\nreturn value"), TrainJob(IMAGE)
    )
    until(calls.exists)
    task.kill()
    run = run_pod(step(f"open({str(calls)!r}, 'a').write('second ')\nreturn value"), TrainJob(IMAGE), try_number=2)
    assert run.states == {"work": "success"}, run.task("work").error
    assert calls.read_text() == "first second "


@BOTH
def test_a_deferred_step_leaves_its_worker(run_pod, trigger, operator, api, root, kind):
    """The task is deferred when its job was created, and resumed with the result when it has ended; nothing stays."""
    text, runtime = step("time.sleep(0.5)\nreturn value + 1"), kind(IMAGE, deferrable=True)
    first = run_pod(text, runtime)
    assert first.states == {"work": "deferred"}
    second = run_pod(text, runtime, resumed=trigger(first.task("work")))
    assert second.states == {"work": "success"}, second.task("work").error
    assert (load(second.xcom("work")), len(operator.created)) == (3, 1)
    assert nothing_stays(operator, api, root)


def test_a_deferred_job_that_does_not_start_is_deleted(run_pod, trigger, operator):
    """The reason is said when the trigger gives up."""
    operator.paused, runtime = True, TrainJob(IMAGE, startup_timeout=1, deferrable=True)
    run = run_pod(SUM, runtime, resumed=trigger(run_pod(SUM, runtime).task("total")))
    assert "did not start the first pod" in str(run.task("total").error)
    assert list(operator.jobs()) == []


def test_a_cleared_step_deletes_its_job(run_pod, trigger, operator, api):
    """When a user clears a deferred task, its trigger deletes the job."""
    deferred = run_pod(step("time.sleep(300)\nreturn value"), TrainJob(IMAGE, deferrable=True)).task("work")
    until(lambda: operator.created)
    trigger(deferred, is_killed=True)
    until(lambda: not list(operator.jobs()) and not api.list_namespaced_pod("default").items)


@BOTH
def test_options_are_checked_where_they_are_written(kind):
    """Options that cannot be are refused; the text of a runtime names it again."""
    for options, said in (
        ({"num_nodes": 0}, "num_nodes"),
        ({"secrets": {"A": "b"}}, "NAME/KEY"),
        ({"on_finish_action": "leave"}, "on_finish_action"),
    ):
        with pytest.raises(StepDefinitionError, match=said):
            kind(IMAGE, **options)
    runtime = kind(IMAGE, num_nodes=2, memory="2Gi", overrides={"spec": {"suspend": True}})
    assert parse_runtime(repr(runtime), "here") == runtime
    assert runtime.ingredients(None, None) == {"image": DIGEST, "processes": "2 x 1"}


@pytest.mark.ml
@pytest.mark.timeout(900)
@BOTH
def test_torch_trains_on_two_nodes(run_pod, operator, kind, capfd):
    """Under torch's own launcher all processes of all nodes are one group; the first node's log has each line's rank."""
    pytest.importorskip("torch")
    text = step("""
import torch, torch.distributed as dist
dist.init_process_group("gloo")
print("a print of", dist.get_rank())
total = torch.tensor([float(dist.get_rank())])
dist.all_reduce(total)
dist.destroy_process_group()
return int(total.item()) if os.environ["RANK"] == "0" else None""")
    run = run_pod(text, kind(FULL_IMAGE, num_nodes=2, nproc_per_node=2, python=sys.executable, startup_timeout=600))
    assert run.states == {"work": "success"}, run.task("work").error
    assert load(run.xcom("work")) == 6
    assert set(rank_usage()) == {0, 1, 2, 3}
    assert {f"[rank {rank}] a print of {rank}" for rank in (0, 1)} <= set(capfd.readouterr().out.splitlines())
