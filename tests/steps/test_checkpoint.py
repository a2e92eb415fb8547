"""Promises about checkpoints: the next try of the same work finds the last one, and success deletes them."""

import itertools
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from msgspec.structs import replace

import airflow_zen
from airflow_zen.errors import CheckpointError, MaterializerNotFound
from airflow_zen.pruning.collect import prune_stack
from airflow_zen.pruning.retention import DAY, Retention
from airflow_zen.steps.ranks import RANKED_VARIABLE
from tests.calls import record_call, recorded_calls


def stored(stack):
    """Return the keys of stored checkpoints."""
    return list(stack.store.transport.list("checkpoints"))


def train(rate: float, broken: str) -> list[int]:
    """Save each of five steps; fail before the fourth while a file exists."""
    ckpt = airflow_zen.checkpoint()
    state = ckpt.latest() or {"steps": [], "weights": np.zeros(3)}
    record_call(f"begin at {len(state['steps'])}")
    for step in range(len(state["steps"]), 5):
        if step == 3 and Path(broken).exists():
            raise OSError("the disk is full")
        state["steps"].append(step)
        state["weights"] += rate
        ckpt.save(state, step=step)
    assert state["weights"].tolist() == [5 * rate] * 3
    return state["steps"]


def first_state(rate: float, broken: str) -> bool:
    """Return whether there is no state."""
    return airflow_zen.checkpoint().latest() is None


@pytest.fixture
def broken(tmp_path):
    """A file that makes `train` fail."""
    path = tmp_path / "broken"
    path.touch()
    return path


def value_of(stack, finished):
    """Return the output of a run."""
    return stack.load(finished.outputs["output"], stack.store.temporary_directory())


def test_the_next_try_goes_on(run, stack, broken):
    """A try after a failed one begins with the last state, and success deletes the checkpoints."""
    with pytest.raises(OSError, match="disk is full"):
        run(train, 0.5, str(broken))
    assert len({key.split("/")[6] for key in stored(stack)}) == 2
    broken.unlink()
    assert value_of(stack, run(train, 0.5, str(broken))) == [0, 1, 2, 3, 4]
    assert recorded_calls() == ["begin at 0", "begin at 3"]
    assert stored(stack) == []


@pytest.mark.parametrize(
    ("function", "rate", "task"), [(train, 0.25, "t"), (train, 0.5, "other"), (first_state, 0.5, "t")]
)
def test_other_work_does_not_find_it(run, stack, broken, function, rate, task):
    """Another argument, another task, and other code of the same task begin from nothing."""
    with pytest.raises(OSError, match="disk is full"):
        run(train, 0.5, str(broken))
    broken.unlink()
    finished = run(function, rate, str(broken), task=task)
    assert value_of(stack, finished) in ([0, 1, 2, 3, 4], True)
    assert set(recorded_calls()) == {"begin at 0"}


def test_a_step_that_is_not_cached_has_the_key_of_its_work(run, stack, broken):
    """With caching off a retry finds the checkpoints of the same code and arguments."""
    with pytest.raises(OSError, match="disk is full"):
        run(train, 0.5, str(broken), cache="off")
    (folder,) = stack.store.transport.list_prefixes("checkpoints/d/r/t/-1")
    assert len(folder) == 64
    with pytest.raises(OSError, match="disk is full"):
        run(train, 0.5, str(broken), cache="off")
    assert recorded_calls() == ["begin at 0", "begin at 3"]


def test_a_directory_of_a_framework(run, stack, tmp_path):
    """A directory is stored with its files, and comes back as a directory of its own."""

    def step(folder: str) -> int:
        ckpt = airflow_zen.checkpoint()
        written = Path(folder, "checkpoint-3")
        written.mkdir()
        (written / "weights.bin").write_bytes(b"1234")
        ckpt.save(written, step=3)
        found = ckpt.latest()
        assert (found / "weights.bin").read_bytes() == b"1234"
        (found / "weights.bin").write_bytes(b"changed")
        return len((ckpt.latest() / "weights.bin").read_bytes())

    assert value_of(stack, run(step, str(tmp_path))) == 4


def test_keep(run, stack):
    """The last `keep` states stay, by their steps; a state of the same step replaces the other."""
    seen = []

    def step() -> int:
        ckpt = airflow_zen.checkpoint(keep=3)
        for number in (1, 2, 3, 4, 4, 10):
            ckpt.save({"at": number, "frame": pd.DataFrame({"x": [number, len(seen)]})}, step=number)
            seen.append(sorted({int(key.split("/")[6].split("-")[0]) for key in stored(stack)}))
        return ckpt.latest()["at"]

    assert value_of(stack, run(step)) == 10
    assert seen == [[1], [1, 2], [1, 2, 3], [2, 3, 4], [2, 3, 4], [3, 4, 10]]


def test_a_damaged_checkpoint_is_left_out(run, stack, caplog):
    """Where bytes of the last state are damaged, or its manifest is missing, the one before it is the latest."""
    root = Path(stack.store.root)
    found = []

    def step() -> int:
        ckpt = airflow_zen.checkpoint(keep=3)
        for number in (1, 2, 3):
            ckpt.save(np.full(1000, number), step=number)
        _, two, three = sorted((root / "checkpoints/d/r/t/-1").glob("*/*"))
        (three / "manifest.json").unlink()
        array = next(path for path in two.iterdir() if path.name != "manifest.json")
        array.chmod(0o600)
        array.write_bytes(array.read_bytes()[:-1] + b"x")
        found.append((ckpt.latest()[0], ckpt.step))
        return 1

    run(step)
    assert found == [(1, 1)]
    assert "differs from its digest" in caplog.text


def save_for_ever(size: int) -> int:
    """Save one state after the other, until killed; with a state of an earlier try, check and return it."""
    ckpt = airflow_zen.checkpoint()
    if (state := ckpt.latest()) is not None:
        assert state.min() == state.max() == ckpt.step
        return int(state[0])
    for number in itertools.count():
        ckpt.save(np.full(size, number), step=number)
        record_call("saved")
    return -1


def test_kill_9(run, stack):
    """A process killed while it saves leaves the state before or the new one, and never a half."""
    child = os.fork()
    if not child:
        with suppress(BaseException):
            run(save_for_ever, 200_000, try_number=1)
        os._exit(1)
    while len(recorded_calls()) < 5:
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert value_of(stack, run(save_for_ever, 200_000, try_number=2)) >= 4
    assert stored(stack) == []


def save_as_ranks(broken: str) -> list[str]:
    """Save a state and fail; in a later try save as rank 0, and return what rank 1 finds."""
    if Path(broken).exists():
        airflow_zen.checkpoint().save("of the first try", step=1)
        raise OSError
    airflow_zen.checkpoint().save("of this try", step=2)
    os.environ["RANK"] = "1"
    ckpt = airflow_zen.checkpoint()
    ckpt.save("ignored", step=3)
    return [ckpt.latest(), ckpt.latest()]


def test_only_rank_0_saves(run, stack, broken, monkeypatch):
    """Other ranks read what rank 0 saved; at their start not what it has saved since its own."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv(RANKED_VARIABLE, "1")
    with pytest.raises(OSError):
        run(save_as_ranks, str(broken))
    broken.unlink()
    assert value_of(stack, run(save_as_ranks, str(broken))) == ["of the first try", "of this try"]


def test_outside_a_step(tmp_path):
    """A function that is called as such, as in a test, has checkpoints that last as long as the process."""
    ckpt = airflow_zen.checkpoint()
    ckpt.save({"a": 1}, step=2)
    assert (airflow_zen.checkpoint().latest(), ckpt.step) == ({"a": 1}, 2)


def test_errors_say_what_to_write():
    """A state without a materializer, a step that is no number, and keep=0 are refused by name."""
    ckpt = airflow_zen.checkpoint()
    with pytest.raises(CheckpointError, match=r"save\(step=-1\)"):
        ckpt.save(1, step=-1)
    with pytest.raises(CheckpointError, match="keep=1"):
        airflow_zen.checkpoint(keep=0)
    with pytest.raises(MaterializerNotFound, match="builtins.object"):
        ckpt.save({"a": object()}, step=1)


def test_a_prune_keeps_what_a_task_may_need(run, stack, broken):
    """A prune deletes old checkpoints of DAG runs that have ended, and keeps those of a DAG run that goes on."""
    with pytest.raises(OSError, match="disk is full"):
        run(train, 0.5, str(broken))
    for key in stored(stack):
        os.utime(Path(stack.store.root, key), (0, 0))
    stack = replace(stack, clock=lambda: 10 * DAY)
    prune_stack(stack, Retention(), [("d", "r")])
    assert stored(stack)
    prune_stack(stack, Retention(), dry_run=True)
    assert stored(stack)
    prune_stack(stack, Retention())
    assert stored(stack) == []
