"""Promises of `airflow_zen.testing.spin`."""

import pdb  # noqa: T100
import sys
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import mlflow
import pandas as pd
import pytest
from airflow.sdk import dag

from airflow_zen import Each, Output, ml_step
from airflow_zen.config.settings import open_stack
from airflow_zen.errors import InputError, SpinError
from airflow_zen.runtimes import Python
from airflow_zen.testing import spin
from airflow_zen.transports.local import LocalTransport
from tests.harness import run_dag

pytestmark = pytest.mark.usefixtures("root")


@ml_step
def load(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"x": range(rows)})


@ml_step
def train(table: pd.DataFrame, depth: int = 3, day: date = date(2026, 1, 1), *, token: str = "t") -> Output(
    score=float, days=str
):
    return float(table["x"].sum() * depth), f"{day:%A}"


@ml_step
def log(depth: int) -> int:
    if depth > 3:
        mlflow.log_metric("depth", depth)
    return depth


@ml_step
def parts() -> Annotated[list[int], Each]:
    return [1, 2]


@ml_step
def scale(part: int, *, by: float, more: dict) -> float:
    return part * by + len(more["tables"])


@ml_step
def combine(first: str, *values: int, rate: float) -> str:
    return f"{first}{sum(values)}{rate}"


def run(build, dag_id="spun", **options):
    @dag(dag_id=dag_id, schedule=None)
    def built():
        build()

    result = run_dag(built(), **options)
    assert set(result.states.values()) == {"success"}, result.states
    return result


def objects(root):
    return {str(path) for path in root.rglob("*") if path.is_file()}


def test_repeats_a_recorded_run(root):
    """Inputs come from the store by digest, parameters from the record; outputs are compared, and nothing is written."""
    run(lambda: train(load(4), depth=5, day="2026-11-29"))
    before = objects(root)
    spun = spin("spun", "train", step=train)
    assert dict(spun.outputs) == {"score": 30.0, "days": "Sunday"}
    assert spun.same and spun.same_key is True
    assert spun.recorded.parameters["day"] == "2026-11-29"
    assert objects(root) == before


def test_other_parameters_change_outputs_and_key(root):
    """A given parameter replaces the recorded one; the ingredients of the key that differ are named."""
    run(lambda: train(load(4), depth=5))
    spun = spin("spun", "train", step=train, params={"depth": 7})
    assert spun.outputs["score"] == 42.0
    assert not spun.same and spun.diffs["days"].same
    change = ("file value.json", "fcb50f27819d", "9c4c223eb6c9")
    assert [(found.fact, found.before, found.after) for found in spun.diffs["score"].changes] == [change]
    assert spun.changes == ("parameter depth",)
    with pytest.raises(InputError, match="'depth'"):
        spin("spun", "train", step=train, params={"depth": "deep"})
    with pytest.raises(SpinError, match="no parameter dept"):
        spin("spun", "train", step=train, params={"dept": 7})


def test_runs_in_the_runtime_of_the_step(root):
    """A step with a runtime is replayed in it; its outputs are artifacts without a name, a record or a cache entry."""
    where = Python(sys.executable)
    run(lambda: train.override(runtime=where)(load(4), depth=5))
    before = objects(root)
    spun = spin("spun", "train", step=ml_step(runtime=where)(train.function), params={"depth": 6})
    assert (spun.outputs["score"], spun.changes) == (36.0, ("parameter depth",))
    assert {path.split("/root/")[1].partition("/")[0] for path in objects(root) - before} == {"artifacts"}


@ml_step
def scheduled(rows: int, ds: str | None = None, logical_date=None, data_interval_end=None) -> dict:
    names = {"ds": ds, "month": f"{logical_date:%B}", "is_later": data_interval_end >= logical_date}
    return {**names, "type": type(logical_date).__name__}


@ml_step
def needs_task(rows: int, ti=None) -> int:
    return rows + ti.try_number


def test_dates_of_the_context(root):
    """Dates that Airflow's context filled in are what the function had; another one can be given."""
    run(lambda: scheduled(1))
    spun = spin("spun", "scheduled", step=scheduled)
    assert spun.output == {"ds": "2026-01-01", "month": "January", "is_later": True, "type": "DateTime"}
    assert spun.same and spun.same_key
    assert (
        spin("spun", "scheduled", step=scheduled, params={"logical_date": "2025-12-31"}).output["month"] == "December"
    )
    with pytest.raises(SpinError, match="logical_date is a date and time, such as .*, got 'soon'"):
        spin("spun", "scheduled", step=scheduled, params={"logical_date": "soon"})


def test_objects_of_the_context_are_asked_for(root):
    """An object of Airflow's context is not recorded: the error says so, and a given one is passed."""
    run(lambda: needs_task(1))
    with pytest.raises(SpinError, match="Parameter 'ti' of step 'needs_task' is filled in by Airflow's context"):
        spin("spun", "needs_task", step=needs_task)
    assert spin("spun", "needs_task", step=needs_task, params={"ti": SimpleNamespace(try_number=4)}).output == 5


def test_reads_what_it_needs(root, monkeypatch):
    """Of the records of a DAG run one is read, and of the key's history nothing where the key is the recorded one."""
    run(lambda: [load.override(task_id=name)(rows) for rows, name in enumerate("abc")])
    read, original = [], LocalTransport.read
    monkeypatch.setattr(LocalTransport, "read", lambda self, key: read.append(key) or original(self, key))
    assert spin("spun", "b", "manual__1", step=load).same_key
    assert [key for key in read if key.startswith(("runs/", "cache/"))] == ["runs/spun/manual__1/steps/b/-1.1.json"]
    read.clear()
    assert spin("spun", "b", "manual__1", step=load, params={"rows": 9}).changes == ("parameter rows",)
    assert len([key for key in read if key.startswith("cache/history")]) == 1


def test_changed_code_is_named(root):
    """A step whose code differs from the recorded one shows which function changed."""
    run(lambda: load(4))

    @ml_step
    def load_more(rows: int) -> pd.DataFrame:
        return pd.DataFrame({"x": range(rows + 1)})

    spun = spin("spun", "load", step=load_more)
    assert len(spun.output) == 5
    assert [fact.fact for fact in spun.diffs["output"].changes][:1] == ["shape"]
    assert any("function" in label for label in spun.changes)


def test_mapped_tasks_and_arguments_of_every_kind(root):
    """A map index selects a task instance; artifacts inside containers and `**kwargs` are bound again."""

    def build():
        tables = [load(2), load.override(task_id="other")(3)]
        scale.partial(by=0.5, more={"tables": tables, "depth": 2}).expand(part=parts())
        combine("a", 1, 2, rate=0.5)

    run(build)
    assert spin("spun", "scale", step=scale, map_index=1).output == 3.0
    assert spin("spun", "scale", step=scale, map_index=1).same
    spun = spin("spun", "combine", step=combine)
    assert (spun.output, spun.same, spun.same_key) == ("a30.5", True, True)
    with pytest.raises(SpinError, match="map indexes 0, 1"):
        spin("spun", "scale", step=scale)


def test_masked_parameters_are_asked_for(root):
    """What is masked in the record needs a value, even where the parameter has a default."""
    run(lambda: train(load(4), token="s3cret"))
    with pytest.raises(
        SpinError, match=r"'token' of step 'train' is masked in the record\. Give its value: --param token=VALUE"
    ):
        spin("spun", "train", step=train)
    asked = []
    spun = spin("spun", "train", step=train, ask=lambda name: asked.append(name) or "s3cret")
    assert (asked, spun.same_key) == (["token"], True)
    assert spin("spun", "train", step=train, params={"token": "s3cret"}).same


def test_nothing_reaches_the_tracking_server_of_the_process(root, tmp_path):
    """What the function logs goes to a folder of its own, also where this process has an experiment and an active run."""
    run(lambda: log(3))
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mine = f"sqlite:///{tmp_path}/mine.db"
    mlflow.set_tracking_uri(mine)
    mlflow.set_experiment("mine")
    try:
        with mlflow.start_run(run_name="active") as active:
            assert spin("spun", "log", step=log, params={"depth": 4}).output == 4
            assert mlflow.active_run().info.run_id == active.info.run_id
        assert mlflow.get_tracking_uri() == mine
        assert [found.data.metrics for found in mlflow.search_runs(output_format="list")] == [{}]
    finally:
        mlflow.set_tracking_uri(before)


def test_an_error_opens_the_debugger(root, monkeypatch):
    """With `debug` the debugger is opened on the traceback of the error, which is raised again."""
    run(lambda: load(4))

    @ml_step
    def broken(rows: int) -> pd.DataFrame:
        raise ValueError(f"{rows} rows")

    opened = []
    monkeypatch.setattr(pdb, "post_mortem", opened.append)
    with pytest.raises(ValueError, match="4 rows"):
        spin("spun", "load", step=broken, debug=True)
    (traceback,) = opened
    while traceback.tb_next:
        traceback = traceback.tb_next
    assert traceback.tb_frame.f_code.co_name == "broken"


def test_unknown_runs_and_steps_are_named(root):
    """What is not recorded is an error that says what is."""
    with pytest.raises(SpinError, match="No step run of DAG 'spun' is recorded"):
        spin("spun", "load", step=load)
    run(lambda: load(4))
    with pytest.raises(SpinError, match="no record of a step 'train'. It has: load"):
        spin("spun", "train", step=train)
    with pytest.raises(SpinError, match="run 'other' of DAG 'spun'"):
        spin("spun", "load", "other", step=load)


def test_outputs_that_are_gone_cannot_be_compared(root):
    """Where the recorded artifact was deleted the output has no diff."""
    result = run(lambda: load(4))
    assert result.xcom("load")
    for key in list(open_stack().store.transport.list("artifacts")):
        Path(open_stack().store.transport.local_path(key)).unlink()
    spun = spin("spun", "load", step=load, params={"rows": 5})
    assert (spun.diffs, spun.same) == ({"output": None}, False)
