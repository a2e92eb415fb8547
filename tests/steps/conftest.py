"""A whole stack on a local root."""

import itertools
from dataclasses import dataclass, field

import pytest

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.lineage.recorder import OpenedRun
from airflow_zen.materializers.registry import default_registry
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId
from airflow_zen.stack import Stack
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.run import run_step
from airflow_zen.steps.step import Step
from airflow_zen.transports import open_transport
from tests.calls import CALLS_FILE_VARIABLE


@dataclass
class ListRecorder:
    """Keep what is recorded, in order."""

    runs: list = field(default_factory=list)
    environment: dict = field(default_factory=dict)
    attached: dict = field(default_factory=dict)
    stored_runs: list = field(default_factory=list)
    resumed: list = field(default_factory=list)
    plans: list = field(default_factory=list)

    def start(self, run, suspended=None, *, is_planned=True):
        self.runs.append(("start", run))
        self.resumed += [suspended] if suspended else []
        return OpenedRun("run-1", "http://mlflow/run-1", self.environment)

    def prepare(self, run):
        self.plans.append(run.cache)

    def suspend(self, run, opened):
        self.runs.append(("suspend", run))
        return {"run_id": opened.run_id}

    def finish(self, run, opened):
        self.runs.append(("finish", run))
        return True

    def on_record_stored(self, run):
        self.stored_runs.append(run)

    def attach_files(self, run, opened, files):
        self.attached |= files
        return True


@pytest.fixture
def recorder():
    return ListRecorder()


@pytest.fixture
def stack(tmp_path, recorder):
    root = str(tmp_path / "root")
    transport = open_transport(root, {})
    ticks = itertools.count(1_000)
    return Stack(
        ArtifactStore(root, transport),
        default_registry(),
        StepCache(transport),
        StepRunRecords(transport),
        recorder,
        clock=lambda: float(next(ticks)),
    )


@pytest.fixture
def run(stack):
    """Run a function as a step; return the finished step run."""
    tries = itertools.count(1)

    def run_function(
        function, *args, cache=CacheState.MISS, step=None, task="t", run_hooks=None, try_number=None, **kwargs
    ):
        step = step or Step(function, function.__name__)
        begun = StepRun(
            StepRunId("d", "r", task, -1, try_number or next(tries)), cache=cache, why="asked" if cache == "off" else ""
        )
        return run_step(step, Arguments.bind(function, args, kwargs), stack, begun, run_hooks)

    return run_function


@pytest.fixture(autouse=True)
def _calls(tmp_path, monkeypatch):
    monkeypatch.setenv(CALLS_FILE_VARIABLE, str(tmp_path / "calls"))
