"""Measure what a step costs in a process of its own, beside a bare interpreter.

The environment is made once, in a temporary folder. CPU seconds of the child processes. Rounds: 8 (`--rounds`).
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.lineage.recorder import MetadataCollector, OpenedRun
from airflow_zen.materializers.registry import default_registry
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import StepRun, StepRunId
from airflow_zen.runtimes import Python
from airflow_zen.runtimes.environments import Environments, resolve_requirements
from airflow_zen.runtimes.virtualenv import RUNNER_REQUIREMENTS, Resolved
from airflow_zen.stack import Stack
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.run import RunHooks
from airflow_zen.steps.runtime import Execution
from airflow_zen.steps.step import Step
from airflow_zen.transports import open_transport
from bench.measure import Row, main, row

ROWS = {
    "child_table_over_pandas_s": "a step that returns a table, in an environment that exists, beyond an interpreter that imports pandas; CPU",
    "child_plain_s": "a step without tables there, in all; CPU",
}


def table(rows: int) -> Any:
    """Return a table."""
    import pandas as pd

    return pd.DataFrame({"a": range(rows)})


def plain(rows: int) -> dict[str, int]:
    """Return a dict."""
    return {"rows": rows}


def rows(rounds: int) -> Iterator[Row]:
    """Yield the rows."""
    with tempfile.TemporaryDirectory() as temporary:
        environments = Environments(Path(temporary, "environments"), 1 << 40)
        text = resolve_requirements(
            [*RUNNER_REQUIREMENTS, "pandas<3"], sys.executable, None, "", Python(sys.executable)
        )
        with environments.use(Resolved(text, "", sys.executable), None) as interpreter:
            pairs = [(_step(table, interpreter), _bare(interpreter)) for _ in range(rounds + 1)][1:]
            yield row("child_table_over_pandas_s", [ours - bare for ours, bare in pairs], "s")
            yield row("child_plain_s", [_step(plain, interpreter) for _ in range(rounds + 1)][1:], "s")


def _bare(interpreter: str) -> float:
    begun = _children()
    subprocess.run([interpreter, "-c", "import pandas"], check=True)
    return _children() - begun


def _step(function: Any, interpreter: str) -> float:
    opening: Future[OpenedRun] = Future()
    opening.set_result(OpenedRun())
    with tempfile.TemporaryDirectory() as root:
        transport = open_transport(root, {})
        stack = Stack(
            ArtifactStore(root, transport), default_registry(), StepCache(transport), StepRunRecords(transport)
        )
        arguments, run = Arguments.bind(function, (3,), {}), StepRun(StepRunId("bench", "r", "t"))
        collector = MetadataCollector(frozenset(), frozenset({"output"}))
        with stack.scratch_directory() as scratch:
            execution = Execution(
                Step(function, "step"), arguments, stack, run, opening, RunHooks(), collector, scratch
            )
            begun = _children()
            Python(interpreter).execute(execution)
            return _children() - begun


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(__doc__, rows, rounds=8)
