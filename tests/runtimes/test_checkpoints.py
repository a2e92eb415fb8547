"""Promises about checkpoints of steps that run in another process."""

from airflow_zen import load
from airflow_zen.config.settings import open_stack

_DAG = """
import os, signal
from airflow.sdk import dag
from airflow_zen import checkpoint, ml_step

@ml_step
def train(steps: int) -> list[str]:
    ckpt = checkpoint()
    seen = ckpt.latest() or []
    first = ckpt.step
    for step in range(len(seen), steps):
        seen.append(f"{step} after {first}")
        ckpt.save(seen, step=step)
        if (first, step) == (None, 2):
            os.kill(os.getpid(), signal.SIGKILL)
    return seen

@dag(schedule=None)
def pipeline():
    train(5)
"""


def test_a_killed_process_goes_on(run_small):
    """The try after a killed process of another interpreter begins with its last state; success deletes all."""
    killed = run_small(_DAG)
    assert "SIGKILL" in str(killed.tasks[-1].error)
    assert len(open_stack().store.transport.list_prefixes("checkpoints/pipeline")) == 1
    run = run_small(_DAG, try_number=2)
    assert run.states == {"train": "success"}, run.tasks[-1].error
    assert load(run.xcom("train")) == ["0 after None", "1 after None", "2 after None", "3 after 2", "4 after 2"]
    assert list(open_stack().store.transport.list("checkpoints")) == []
