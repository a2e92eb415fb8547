"""Promises about checkpoints in S3: a kill -9 leaves whole states, the next try goes on, and a prune deletes them."""

import itertools
import json
import random
import subprocess
import sys
import time
import uuid

import numpy as np
import pytest
from msgspec.structs import replace

import airflow_zen
from airflow_zen.pruning.collect import prune_stack
from airflow_zen.pruning.retention import DAY, Retention
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.run import run_step
from airflow_zen.steps.step import Step
from tests.pruning.conftest import stack_at

pytestmark = pytest.mark.server

_CHILD = """
import json, sys
from tests.steps.test_checkpoint_s3 import run_try
run_try(*json.loads(sys.argv[1]))
"""


def save_for_ever(size: int) -> int:
    """Save one state after the other, until killed; with a state of an earlier try, check and return it."""
    ckpt = airflow_zen.checkpoint(keep=3)
    if (state := ckpt.latest()) is not None:
        assert state.min() == state.max() == ckpt.step
        return int(state[0])
    for number in itertools.count():
        ckpt.save(np.full(size, number), step=number)
    return -1


def run_try(root, options, number):
    """Run a try of the step."""
    stack = stack_at(root, options)
    begun = StepRun(StepRunId("d", "r", "t", -1, number), cache=CacheState.MISS)
    finished = run_step(
        Step(save_for_ever, "save_for_ever"), Arguments.bind(save_for_ever, (100_000,), {}), stack, begun
    )
    return stack.load(finished.outputs["output"], stack.store.temporary_directory())


@pytest.fixture(params=["moto", "rclone"])
def place(request):
    """An artifact root in S3, and its options."""
    server = request.getfixturevalue(request.param)
    return f"s3://{server.bucket}/{uuid.uuid4().hex}", server.storage_options()


def steps_of(stack):
    """Return the steps of the stored states that are complete."""
    keys = stack.store.transport.list("checkpoints")
    return sorted(int(key.split("/")[6].split("-")[0]) for key in keys if key.endswith("/manifest.json"))


def kill_a_try(place, stack):
    """Kill a process with kill -9 at a random moment after it has stored some states."""
    child = subprocess.Popen([sys.executable, "-c", _CHILD, json.dumps([*place, 1])])
    try:
        while not (found := steps_of(stack)) or found[-1] < 4:
            assert child.poll() is None
            time.sleep(0.01)
        time.sleep(random.Random(5).uniform(0, 0.3))
    finally:
        child.kill()
        child.wait()


def test_a_killed_try(place):
    """After a kill -9 the last states are there, whole; the next try begins with the last one, and success deletes all."""
    stack = stack_at(*place)
    kill_a_try(place, stack)
    left = steps_of(stack)
    # The oldest is deleted after the newest is stored.
    assert len(left) in (3, 4)
    assert left == list(range(left[0], left[-1] + 1))
    assert run_try(*place, 2) == left[-1]
    assert list(stack.store.transport.list("checkpoints")) == []


def test_a_prune_deletes_them(place):
    """What a killed task left is deleted by a prune after the grace, when its DAG run has ended."""
    stack = stack_at(*place)
    kill_a_try(place, stack)
    later = replace(stack, clock=lambda: time.time() + 10 * DAY)
    prune_stack(later, Retention(), [("d", "r")])
    assert steps_of(stack)
    prune_stack(later, Retention())
    assert list(stack.store.transport.list("checkpoints")) == []
