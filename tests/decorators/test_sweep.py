"""Promises of `sweep` and `best` in Airflow, with its metadata database."""

from datetime import datetime

import pytest
from airflow.sdk import dag

import airflow_zen
from airflow_zen import LogUniform, Output, best, ml_step, report, sweep
from airflow_zen.config.settings import open_stack

SPACE = {"depth": [4, 8], "rate": LogUniform(1e-3, 1)}


@pytest.fixture(autouse=True)
def _root(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))


@ml_step
def numbers() -> list:
    return [1.0, 2.0]


@ml_step
def train(values: list, depth: int, rate: float) -> dict:
    return {"auc": depth * rate, "rows": len(values)}


@ml_step
def take(value, parameters: dict) -> dict:
    return {"value": value, "parameters": parameters}


def in_dag(build):
    @dag(dag_id="sweeps", schedule=None, start_date=datetime(2026, 1, 1))
    def built():
        build()

    return built()


def trials_of(run):
    """Give the records of all trials, by task and map index."""
    found = [record for record in open_stack().records.read_dag_run("sweeps", run.run_id) if record.sweep]
    return sorted(found, key=lambda record: (record.id.task_id, record.id.map_index))


def result(run, task_id):
    return open_stack().records.latest_try("sweeps", run.run_id, task_id)


def optuna_sweep(trials):
    found = sweep(train, SPACE, trials=trials, seed=7, sampler="tpe", parallel=3, metric="auc")(numbers())
    take(*best(found))


def test_wider_optuna_sweep_reuses_the_trials_of_the_narrower_one(run_dag_test):
    """Optuna learns between waves, and proposes the same trials again where there are more of them."""
    narrow = run_dag_test(in_dag(lambda: optuna_sweep(6)))
    wide = run_dag_test(in_dag(lambda: optuna_sweep(8)))
    assert (narrow.state, wide.state) == ("success", "success")
    first, second = trials_of(narrow), trials_of(wide)
    assert [record.cache for record in first] == ["miss"] * 6
    assert [record.cache for record in second] == ["hit"] * 6 + ["miss"] * 2
    assert [record.parameters for record in second[:6]] == [record.parameters for record in first]
    assert len({record.parameters["rate"] for record in second}) == 8
    found = airflow_zen.load(result(wide, "take").outputs["output"])
    winner = max(second, key=lambda record: record.metadata["trial:metrics"]["auc"])
    assert found["parameters"] == {name: winner.parameters[name] for name in SPACE}
    assert found["value"] == airflow_zen.load(winner.outputs["output"])
    assert result(wide, "take").inputs["value"].digest == winner.outputs["output"].digest


@ml_step
def fragile(depth: int, rate: float) -> Output(model=list, auc=float):
    if depth == 3:
        raise ValueError("depth 3 is broken")
    return [depth] * 3, depth * rate


def test_failed_trial_does_not_sink_the_sweep(run_dag_test):
    """`best` runs after a failed trial, and returns the named outputs of the winner; the next run reuses the other trials."""

    def build():
        trials = sweep(fragile, {"depth": [1, 2, 3, 4, 5], "rate": [0.5]})()
        model, auc, parameters = best(trials, metric="auc", mode="min")
        take.override(task_id="take_model")(model, parameters)
        take(auc, parameters)

    run = run_dag_test(in_dag(build))
    assert run.state == "success"
    states = {(ti.task_id, ti.map_index): ti.state for ti in run.get_task_instances()}
    assert states["sweep_fragile.trials", 2] == "failed"
    assert states["sweep_fragile.trials", 1] == "success"
    assert airflow_zen.load(result(run, "take").outputs["output"]) == {
        "value": 0.5,
        "parameters": {"depth": 1, "rate": 0.5},
    }
    labels = {ti.map_index: ti.rendered_map_index for ti in run.get_task_instances() if ti.map_index >= 0}
    assert labels[3] == "depth=4, rate=0.5"
    again = [(record.cache, str(record.state)) for record in trials_of(run_dag_test(in_dag(build)))]
    assert again == [("miss", "FAILED") if index == 2 else ("hit", "FINISHED") for index in range(5)]


def test_too_many_failed_trials_fail_the_sweep(run_dag_test, caplog):
    """Where fewer trials succeed than `min_success` allows, `best` fails, and names the failures."""

    def build():
        best(sweep(fragile, {"depth": [1, 3], "rate": [0.5]})(), metric="auc")

    run = run_dag_test(in_dag(build))
    assert run.state == "failed"
    assert {ti.task_id: ti.state for ti in run.get_task_instances()}["best_fragile"] == "failed"


@ml_step
def reporting(start: float) -> dict:
    for epoch in range(4):
        report(start + epoch, step=epoch)
    return {"score": start + 3}


def test_pruner_stops_a_trial_which_has_not_failed(run_dag_test):
    """A trial that is worse than the median of the earlier waves ends early: green, labelled, and cached."""

    def build():
        space = {"start": [5.0, 6.0, 0.0, 7.0]}
        options = {"n_startup_trials": 2, "n_warmup_steps": 1}
        best(sweep(reporting, space, parallel=2, metric="score", pruner="median", pruner_options=options)())

    first, second = (run_dag_test(in_dag(build)) for _ in range(2))
    assert (first.state, second.state) == ("success", "success")
    kept = [record.metadata.get("trial:reports", {}) for record in trials_of(first)]
    assert [len(reports) for reports in kept] == [4, 4, 2, 4]
    pruned = trials_of(first)[2]
    assert (pruned.state, pruned.outputs) == ("FINISHED", {})
    assert {record.cache for record in trials_of(second)} == {"hit"}
    labels = {ti.rendered_map_index for ti in second.get_task_instances() if ti.map_index >= 0}
    assert "start=0 (pruned) (cached)" in labels


def test_plain_function_reports_nowhere():
    """Outside a sweep `report` does nothing, so that the function of a trial can be called."""
    assert reporting(1.0) == {"score": 4.0}
