"""Store what a step returned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from airflow_zen.errors import OutputError
from airflow_zen.lineage.step_run import StepRun
from airflow_zen.stack import SavedArtifact, Stack
from airflow_zen.steps.outputs import SINGLE_OUTPUT
from airflow_zen.steps.step import Step
from airflow_zen.steps.streams import BatchError

_SAVE_THREADS = 8


def save_outputs(step: Step, values: Mapping[str, Any], stack: Stack, run: StepRun) -> dict[str, SavedArtifact]:
    """Store all outputs, concurrently; none is committed to the cache unless all are stored.

    An iterator is gone through in the calling thread: the step's own code runs in it, and expects its MLflow
    run and its interrupts there. What it raises is raised as it is.
    """

    def save(name: str) -> SavedArtifact:
        called = artifact_name(step, run, name)
        return stack.save(values[name], called, step.declared_class(name), step.output_materializer(name))

    streams = [name for name, value in values.items() if isinstance(value, Iterator)]
    with ThreadPoolExecutor(_SAVE_THREADS) as pool:
        saving = {name: pool.submit(save, name) for name in values if name not in streams}
        saved = {name: _save_stream(save, name, step.name) for name in streams}
        saved |= {name: future.result() for name, future in saving.items()}
    return {name: saved[name] for name in values}


def artifact_name(step: Step, run: StepRun, output: str) -> str:
    """Give an output's artifact the name that is written out, or one after DAG and task.

    Such are `dag/task`, `dag/task.train`, and `dag/task[3]` for an element of a list marked `Each`.
    """
    if output in step.outputs.artifact_names:
        return step.outputs.artifact_names[output]
    name = f"{run.id.dag_id}/{run.id.task_id}"
    if output == SINGLE_OUTPUT or output.startswith(f"{SINGLE_OUTPUT}["):
        return f"{name}{output.removeprefix(SINGLE_OUTPUT)}"
    return f"{name}.{output}"


def _save_stream(save: Any, name: str, step: str) -> SavedArtifact:
    try:
        saved: SavedArtifact = save(name)
    except BatchError as failure:
        error = failure.__cause__ or failure
        raise error from error.__cause__
    except OutputError as error:
        raise OutputError(f"Step {step!r}: {error}") from None
    return saved
