"""Promises of `dags_examples/distributed_training.py`: ranks learn the same, and kills change nothing."""

import os
import random
import re
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from airflow_zen import load
from airflow_zen.config.settings import open_stack
from airflow_zen.runs.step_run import StepState
from tests.harness import run_dag
from tests.runtimes.worker import until

_EXAMPLE = (Path(__file__).parents[2] / "dags_examples/distributed_training.py").read_text()

pytestmark = [pytest.mark.ml, pytest.mark.slow]
pytest.importorskip("torch")


_RUN = "distributed_training", "manual__1"
# Rank 1 kills itself in the fourth epoch: the state of the third one is stored, or that of the fourth one, too.
_KILL = """        if (current, distributed.get_rank(), os.environ["TORCHELASTIC_RESTART_COUNT"]) == (3, 1, "0"):
            os.kill(os.getpid(), 9)
        state = {"""


def test_two_ranks_learn_what_one_does(load_dag_file, root):
    """Two ranks, of which one was killed, have equal weights: those of one rank but for rounding, and its accuracy."""
    text = _EXAMPLE.replace("        state = {", _KILL)
    run = run_dag(load_dag_file(text, "distributed_training").distributed_training())
    assert set(run.states.values()) == {"success"}, run.tasks[-1].error
    two, one = (load(run.xcom(f"train_{name}", "digests")) for name in ("two", "one"))
    assert (len(two), len(set(two)), len(one)) == (2, 1, 1)
    assert min(load(run.xcom(f"accuracy_{name}")) for name in ("two", "one")) > 0.93
    # One image.
    assert abs(load(run.xcom("compare"))) < 0.003
    tries = {name: open_stack().records.latest_try(*_RUN, f"train_{name}") for name in ("two", "one")}
    assert {name: (each.id.try_number, each.metadata[""]["first_epoch"]) for name, each in tries.items()} in (
        {"two": (1, epoch), "one": (1, 0)} for epoch in (3, 4)
    )
    weights = [load(run.xcom(f"train_{name}", "weights")) for name in ("two", "one")]
    for name, values in weights[0].items():
        assert np.allclose(values, weights[1][name], atol=1e-4, rtol=0)


_TRAIN = """

@dag(schedule=None)
def pipeline():
    data = digits()
    train.override(runtime=TorchElastic(2), cache=False)(data.images, data.labels, epochs={epochs})
"""
EPOCHS = 60


def make_text(epochs=EPOCHS):
    """Return the example with a DAG that trains once, slowly: an epoch is longer than the test needs to see it."""
    text = _EXAMPLE.replace("\ndistributed_training()\ndistributed_training_on_ray()\n", "").replace(
        "import annotations\n", "import annotations\nimport time\n"
    )
    return text.replace("        state = {", "        time.sleep(0.15)\n        state = {") + _TRAIN.format(
        epochs=epochs
    )


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The directory of temporary files of the tasks, whose processes it tells from others."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


class Ranks:
    """The processes below a task: the launcher, and the ranks that it has started."""

    def __init__(self, task, folder):
        self._task, self._folder = task, folder

    def of_task(self):
        """Return all processes that have the task's temporary directory, those that are no longer below it too."""
        found = [each for each in psutil.process_iter() if _variable(each, "TMPDIR") == str(self._folder)]
        return [each for each in found if each.pid not in (self._task.pid, os.getpid())]

    def find(self, name):
        """Return a process by its name: the launcher, or one of the ranks; None if it does not run."""
        if name == "task":
            return psutil.Process(self._task.pid)
        launchers = [each for each in self.of_task() if each.ppid() == self._task.pid]
        if name == "launcher":
            return next(iter(launchers), None)
        ranks = [each for each in self.of_task() if launchers and each.ppid() == launchers[0].pid]
        return next((each for each in ranks if _variable(each, "RANK") == name.removeprefix("rank ")), None)


def _variable(process, name):
    try:
        return process.environ().get(name)
    except psutil.Error:
        return None


def last_epoch(stack):
    """Return the epoch of the last checkpoint, 0 without one."""
    keys = stack.store.transport.list("checkpoints")
    return max((int(found[1]) for key in keys if (found := re.search(r"/(\d{12})-\w+/manifest.json", key))), default=0)


def test_a_clear_ends_the_ranks(start_file, root, temporary):
    """SIGTERM to the task, as after a clear, ends the launcher and all ranks; the step run is killed."""
    task = start_file(make_text(), None)
    until(lambda: last_epoch(open_stack()) >= 1, 600)
    ranks = Ranks(task, temporary)
    assert all(ranks.find(name) for name in ("launcher", "rank 0", "rank 1"))
    task.kill(signal.SIGTERM)
    until(lambda: not ranks.of_task(), 120)
    record = open_stack(lineage=False).records.latest_try("pipeline", "manual__1", "train")
    assert record.state is StepState.KILLED


@pytest.mark.timeout(3000)
def test_kills_at_ten_moments(start_file, load_dag_file, root, temporary):
    """Whenever a rank, the launcher or the task is killed, no process stays, and the last try ends with the right model."""
    pipeline = load_dag_file(make_text(), "undisturbed").pipeline
    expected = load(run_dag(pipeline(), run_id="manual__0").xcom("train", "weights"))
    moments, stack = random.Random(21), open_stack()
    names = ["rank 0", "rank 1"] * 2 + ["launcher", "task"] * 3
    moments.shuffle(names)
    epochs = [0, 0, 0, *sorted(moments.choices(range(1, EPOCHS // 2), k=7))]
    for number, (name, epoch) in enumerate(zip(names, epochs, strict=True), 1):
        task = start_file(make_text(), None, try_number=number)
        ranks = Ranks(task, temporary)
        until(lambda ranks=ranks, name=name: ranks.find(name), 600)
        until(lambda epoch=epoch: last_epoch(stack) >= epoch, 600)
        time.sleep(moments.uniform(0, 0.5))
        ranks.find(name).kill()
        until(lambda task=task: not psutil.pid_exists(task.pid), 600)
        until(lambda ranks=ranks: not ranks.of_task(), 120)
        assert last_epoch(stack) >= epoch
    before = last_epoch(stack)
    assert EPOCHS // 4 < before < EPOCHS
    run = run_dag(pipeline(), try_number=11)
    assert set(run.states.values()) == {"success"}, run.tasks[-1].error
    found = load(run.xcom("train", "weights"))
    assert {name: value.tobytes() for name, value in found.items()} == {
        name: value.tobytes() for name, value in expected.items()
    }
    assert len(set(load(run.xcom("train", "digests")))) == 1
    assert stack.records.latest_try("pipeline", "manual__1", "train").metadata[""]["first_epoch"] == before
    assert last_epoch(stack) == 0
