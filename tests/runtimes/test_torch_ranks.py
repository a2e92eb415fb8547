"""Promises of `TorchElastic` with PyTorch: two ranks of one step on this machine."""

import logging
import os
import sys
import traceback
from pathlib import Path

import pytest

from airflow_zen import load
from airflow_zen.config.settings import open_stack
from airflow_zen.errors import RuntimeUnavailable, StepInterrupted
from airflow_zen.runtimes import TorchElastic, Virtualenv
from airflow_zen.steps.remote_errors import describe_error
from airflow_zen.steps.runtime import RankOptions
from airflow_zen.steps.spec import StepAnswer

pytestmark = pytest.mark.ml
pytest.importorskip("torch")

_HEADER = """
import logging, os, re, signal, sys, time
from pathlib import Path
import numpy as np
from airflow.sdk import dag
from airflow_zen import checkpoint, log_metadata, ml_step
"""

_SHARED = (
    _HEADER
    + """
def mapped_megabytes(field: str) -> float:
    blocks = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
    shared = [block for block in blocks if block.partition("\\n")[0].endswith("/buffers.bin")]
    return sum(int(re.search(rf"{field}: +(\\d+)", block)[1]) for block in shared) / 1024

def use_gpu(rank: int) -> None:
    import torch

    torch.cuda.is_initialized, torch.cuda.device_count = lambda: True, lambda: 1
    torch.cuda.memory_allocated = torch.cuda.max_memory_allocated = lambda *device: (rank + 1) << 20

@ml_step
def make(megabytes: int) -> np.ndarray:
    return np.arange(megabytes * 131_072, dtype=np.float64)

@ml_step
def total(values: np.ndarray, go: str) -> list[float]:
    import torch
    from torch import distributed

    rank = distributed.get_rank()
    found = torch.from_numpy(values).sum()
    shared, private = torch.tensor(mapped_megabytes("Rss")), torch.tensor(mapped_megabytes("Anonymous"))
    logging.getLogger("mine").warning("the sum is %s", float(found))
    print("a print of", rank)
    deadline = time.monotonic() + 240
    while rank and not Path(go).exists():
        assert time.monotonic() < deadline, "the line of this rank was not seen"
        time.sleep(0.05)
    distributed.all_reduce(found)
    distributed.all_reduce(shared, distributed.ReduceOp.MIN)
    distributed.all_reduce(private, distributed.ReduceOp.MAX)
    log_metadata({"rank": rank})
    if rank:
        values[:] = 0
    distributed.barrier()
    changed = mapped_megabytes("Anonymous")
    use_gpu(rank)
    return [float(found), float(values[-1]), float(shared), float(private), changed, distributed.get_world_size(), rank]

@dag(schedule=None)
def pipeline():
    total(make(48), {go!r})
"""
)


@pytest.fixture
def go(tmp_path):
    """The path of a file that is made when a line of rank 1 arrives."""
    path = tmp_path / "go"

    class Watch(logging.Handler):
        def emit(self, record):
            if record.getMessage().startswith("[rank 1]"):
                path.touch()

    watch = Watch()
    logging.getLogger("mine").addHandler(watch)
    yield str(path)
    logging.getLogger("mine").removeHandler(watch)


def test_ranks_work_together(load_dag_file, root, caplog, capfd, go):
    """Ranks are one process group and share the inputs; rank 0's value is the output, and all log with their rank.

    Rank 1 ends when its line has arrived. This machine has no GPU: each rank replaces PyTorch's counters of GPU memory.
    """
    from tests.harness import run_dag

    text = _SHARED.replace("@ml_step\ndef total", "@ml_step(runtime='TorchElastic(nproc_per_node=2)')\ndef total")
    with caplog.at_level(logging.INFO):
        run = run_dag(load_dag_file(text.replace("{go!r}", repr(go))).pipeline())
    assert run.states == {"make": "success", "total": "success"}, run.tasks[-1].error
    count = 48 * 131_072
    total, last, shared, private, changed, size, rank = load(run.xcom("total"))
    assert (total, last, size, rank) == (count * (count - 1), count - 1, 2, 0)
    assert (shared >= 48, private, changed) == (True, 0, 0)
    messages = {record.getMessage() for record in caplog.records if record.name == "mine"}
    assert messages == {f"[rank {rank}] the sum is {count * (count - 1) / 2}" for rank in (0, 1)}
    printed = capfd.readouterr().out.splitlines()
    assert {"[rank 0] a print of 0", "[rank 1] a print of 1"} <= set(printed)
    (record,) = [
        each for each in open_stack().records.read_dag_run("pipeline", "manual__1") if each.id.task_id == "total"
    ]
    facts = record.metadata[""]
    assert facts["rank"] == 0
    assert {
        "system/rank_0/cpu_seconds",
        "system/rank_1/cpu_seconds",
        "system/rank_1/peak_memory_megabytes",
    } <= facts.keys()
    assert [facts[f"system/rank_{rank}/gpu_peak_memory_megabytes"] for rank in (0, 1)] == [1, 2]
    assert record.resources.gpu_memory == 3 << 20


_FAILS = (
    _HEADER
    + """
class Unstable(ValueError):
    pass

@ml_step
def step(how: str) -> int:
    from torch import distributed

    ckpt = checkpoint()
    begun = ckpt.latest() or 0
    if distributed.get_rank() == 1:
        if how == "raise":
            raise Unstable("the loss is nan")
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
    ckpt.save(begun + 1, step=begun + 1)
    if how == "raise":
        # As a library that cannot be interrupted: the launcher has to kill it.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        distributed.barrier()
    except RuntimeError:
        if how == "raise":
            print("rank 0 waits", flush=True)
            time.sleep(600)
        os.abort()
    if distributed.get_rank() == 1 and begun == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.barrier()
    return begun + 1

@dag(schedule=None)
def pipeline():
    step({how!r})
"""
)


def test_the_error_of_a_rank(run_file, capfd):
    """A rank that raises fails the step with its own exception; one that waited for it and was killed is not blamed."""
    run = run_file(_FAILS.replace("{how!r}", "'raise'"), TorchElastic(2))
    error = run.tasks[-1].error
    assert (type(error).__name__, str(error)) == ("Unstable", "the loss is nan")
    assert isinstance(error, ValueError)
    assert "Raised in rank 1 of 2." in error.__notes__
    assert 'raise Unstable("the loss is nan")' in "".join(traceback.format_exception(error))
    assert "[rank 0] rank 0 waits" in capfd.readouterr().out


_OWN = describe_error(ValueError("the loss is nan"))
_STOPPED = describe_error(StepInterrupted("SIGTERM"))


@pytest.mark.parametrize(
    ("exit_codes", "errors", "expected"),
    [
        # The answers are in their order.
        ({0: 1, 1: 1}, {1: _OWN, 0: describe_error(RuntimeError("Connection closed by peer"))}, "the loss is nan"),
        ({0: -9, 1: 1}, {1: _OWN}, "Rank 0 of 2 was lost to SIGKILL"),
        ({0: 1, 1: -11}, {0: _OWN}, "Rank 1 of 2 was lost to SIGSEGV"),
        ({0: -6, 1: 1}, {1: _OWN}, "the loss is nan"),
        ({0: -6, 1: -11}, {}, "Rank 1 of 2 was lost to SIGSEGV"),
        ({0: -6, 1: -15}, {}, "Rank 0 of 2 was lost to SIGABRT"),
        ({0: 1, 1: 1}, {0: _STOPPED, 1: _OWN}, "the loss is nan"),
        ({1: 3}, {0: _STOPPED}, "SIGTERM"),
        ({1: 3}, {}, "Rank 1 of 2 ended with exit code 3"),
    ],
)
def test_the_first_error(tmp_path, exit_codes, errors, expected):
    """The rank that failed first is told, and not one that failed because of it."""
    assert expected in first_error(tmp_path, exit_codes, errors)


def test_what_the_launcher_killed_is_not_the_first_error(tmp_path):
    """A rank that ends long after the first one was killed by the launcher, so that it is not told."""
    times = {0: 30, 1: 0}
    assert first_error(tmp_path, {0: -9, 1: 1}, {1: _OWN}, times) == "the loss is nan"
    assert "Rank 1 of 2 was lost to SIGSEGV" in first_error(tmp_path, {0: -9, 1: -11}, {}, times)


def first_error(folder, exit_codes, errors, times=None):
    """Return the text of the error that is told, after exit codes at some times in seconds."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    from airflow_zen.steps.torch_ranks import _first_error

    failures = {rank: ProcessFailure(rank, 1, code, str(folder / "none")) for rank, code in exit_codes.items()}
    for rank, failure in failures.items():
        failure.timestamp = (times or {}).get(rank, 0)
    answers = {rank: StepAnswer(error=error) for rank, error in errors.items()}
    return str(_first_error(ChildFailedError("ranks", failures), answers, RankOptions(2, 0, "")))


def test_a_lost_rank(run_file):
    """A rank that is killed fails the step by its number and its signal."""
    run = run_file(_FAILS.replace("{how!r}", "'kill'"), TorchElastic(2))
    error = run.tasks[-1].error
    assert isinstance(error, RuntimeUnavailable)
    assert "Rank 1 of 2 was lost to SIGKILL" in str(error)


def test_a_restart_goes_on(run_file):
    """After a rank was killed all ranks are started again, from the last checkpoint."""
    run = run_file(_FAILS.replace("{how!r}", "'once'"), TorchElastic(2, max_restarts=1))
    assert run.states == {"step": "success"}, run.tasks[-1].error
    assert load(run.xcom("step")) == 2
    assert list(open_stack().store.transport.list("checkpoints")) == []


_LOGS = (
    _HEADER
    + """
@ml_step
def step() -> int:
    import mlflow, torch
    from lightning import pytorch as lightning
    from torch import distributed, nn

    class Line(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def training_step(self, batch, number):
            return nn.functional.mse_loss(self.layer(batch), batch.sum(dim=1, keepdim=True))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    rank = distributed.get_rank()
    mlflow.log_metric(f"fluent_{rank}", 1.0)
    mlflow.pytorch.autolog(log_models=False)
    loader = torch.utils.data.DataLoader(torch.ones(8, 2), batch_size=2)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    lightning.Trainer(max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", **options).fit(Line(), loader)
    if rank:
        mlflow.end_run()
        with mlflow.start_run(run_name="stray"):
            mlflow.log_param("stray", rank)
    return mlflow.active_run() is not None

@dag(schedule=None)
def logging_ranks():
    step()
"""
)


@pytest.mark.server
def test_only_rank_0_logs(load_dag_file, root, server, monkeypatch):
    """Fluent calls and autologging of other ranks are in no run; MLflow has a curve of what each rank used."""
    from mlflow import MlflowClient

    from tests.harness import run_dag

    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    text = _LOGS.replace("@ml_step\n", "@ml_step(runtime='TorchElastic(nproc_per_node=2)')\n")
    run = run_dag(load_dag_file(text).logging_ranks())
    assert run.states == {"step": "success"}, run.tasks[-1].error
    client = MlflowClient(server.uri)
    (experiment,) = client.search_experiments(filter_string="name = 'airflow/logging_ranks'")
    runs = {each.info.run_name: each for each in client.search_runs([experiment.experiment_id])}
    step = runs.pop("step")
    assert [name for name in step.data.metrics if name.startswith("fluent")] == ["fluent_0"]
    assert step.data.params["optimizer_name"] == "SGD"
    assert "stray" not in runs
    for rank in (0, 1):
        history = client.get_metric_history(step.info.run_id, f"system/rank_{rank}/memory_megabytes")
        assert len({point.timestamp for point in history}) >= 2
        assert min(point.value for point in history) > 10
        assert step.data.metrics[f"system/rank_{rank}/cpu_seconds"] > 0


_ELSEWHERE = (
    _HEADER
    + """
@ml_step
def step(value: np.ndarray) -> list[str]:
    import torch
    from torch import distributed

    found = torch.from_numpy(value).sum() + distributed.get_rank()
    distributed.all_reduce(found)
    return [str(int(found)), str(torch.__version__), sys.prefix, str("airflow" in sys.modules)]

@ml_step
def make() -> np.ndarray:
    return np.ones(5)

@dag(schedule=None)
def pipeline():
    step.override(runtime={runtime!r})(make())
"""
)


@pytest.mark.slow
def test_ranks_in_an_environment(load_dag_file, root):
    """`in_=Virtualenv(…)` runs the launcher and the ranks in an environment of the step, which has no Airflow."""
    from tests.harness import run_dag

    wheels = [
        each for place in os.environ.get("PIP_FIND_LINKS", "").split() for each in Path(place).glob("torch-*.whl")
    ]
    wheels = [each for each in wheels if f"-cp{sys.version_info.major}{sys.version_info.minor}-" in each.name]
    if not wheels:
        pytest.skip("no wheel of PyTorch for CPUs in a folder of PIP_FIND_LINKS; the package index has one with CUDA")
    runtime = TorchElastic(2, in_=Virtualenv([f"torch @ {wheels[0].as_uri()}"]))
    run = run_dag(load_dag_file(_ELSEWHERE.replace("{runtime!r}", repr(repr(runtime)))).pipeline())
    assert set(run.states.values()) == {"success"}, run.tasks[-1].error
    total, version, prefix, has_airflow = load(run.xcom("step"))
    assert (total, has_airflow) == ("11", "False")
    assert version in wheels[0].name.replace("%2B", "+")
    assert Path(prefix) != Path(sys.prefix)
