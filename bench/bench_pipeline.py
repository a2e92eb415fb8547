"""Measure the flight example, cold, in one process: its steps run with artifacts and cache, beside the same functions by hand.

By hand is what one writes without a framework: parquet for frames, joblib for the model, json for the metrics. Both run the
functions of `dags_examples/flight_delay.py` in a fresh process, without Airflow; seconds are of processor time, imports
included.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from bench.measure import ROOT, Row, main, ratio_row, run_python

ROWS = {
    "cold_pipeline_vs_by_hand": "the flight example, cold, in one process, over its functions called by hand with parquet and joblib",
}

_FUNCTIONS = """
import os, pathlib, sys
from typing import Any
source = pathlib.Path(sys.argv[1]).read_text()
source = source.replace("from airflow.sdk import dag", "").replace("from airflow_zen import ml_step", "")
source = source.rpartition("@dag(")[0].replace("@ml_step(model=\\"flight_delay\\")", "").replace("@ml_step", "")
flight: dict[str, Any] = {"__name__": "flight_delay"}
exec(compile(source, sys.argv[1], "exec"), flight)
ingest, split, features, train, evaluate, register = (
    flight[name] for name in ("ingest", "split", "features", "train", "evaluate", "register")
)
folder = pathlib.Path(sys.argv[2])
os.chdir(folder)
import mlflow
mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
"""
_BY_HAND = f"""{_FUNCTIONS}
import json
import joblib, pandas

def kept(name, frame):
    frame.to_parquet(folder / name)
    return pandas.read_parquet(folder / name)

departures = kept("departures.parquet", ingest())
past, future = split(departures, "2013-10-01")
past, future = kept("past.parquet", past), kept("future.parquet", future)
table, test_table = kept("table.parquet", features(past)), kept("test_table.parquet", features(future))
joblib.dump(train(table), folder / "model")
metrics = evaluate(joblib.load(folder / "model"), test_table)
(folder / "metrics.json").write_text(json.dumps(metrics))
joblib.dump(register(joblib.load(folder / "model"), json.loads((folder / "metrics.json").read_text())), folder / "final")
"""
_OURS = f"""{_FUNCTIONS}
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.materializers.registry import default_registry
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId
from airflow_zen.stack import Stack
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.run import run_step
from airflow_zen.steps.step import Step
from airflow_zen.transports import open_transport

root = str(folder / "root")
transport = open_transport(root, {{}})
stack = Stack(ArtifactStore(root, transport), default_registry(), StepCache(transport), StepRunRecords(transport))
sys.modules["flight_delay"] = type(sys)("flight_delay")
vars(sys.modules["flight_delay"]).update(flight)

def run(function, *arguments, task=""):
    step_run = StepRun(StepRunId("flight", "run", task or function.__name__), cache=CacheState.MISS)
    bound = Arguments.bind(function, arguments, {{}})
    outputs = run_step(Step(function, task or function.__name__), bound, stack, step_run).outputs
    refs = [ref.to_wire() for ref in outputs.values()]
    return refs if len(refs) > 1 else refs[0]

past, future = run(split, run(ingest), "2013-10-01")
model = run(train, run(features, past))
run(register, model, run(evaluate, model, run(features, future, task="test_features")))
"""


def rows(rounds: int) -> Iterator[Row]:
    """Yield the row."""
    pairs = [(_seconds(_OURS), _seconds(_BY_HAND)) for _ in range(rounds)]
    yield ratio_row("cold_pipeline_vs_by_hand", pairs)


def _seconds(program: str) -> float:
    with tempfile.TemporaryDirectory() as directory:
        return run_python(program, str(ROOT / "dags_examples" / "flight_delay.py"), directory)[1]


if __name__ == "__main__":
    main(__doc__, rows, rounds=5)
