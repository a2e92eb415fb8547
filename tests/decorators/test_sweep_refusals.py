"""What `sweep` and `best` refuse when the DAG is parsed."""

import subprocess
import sys
from typing import Annotated

import pytest
from airflow.sdk import DAG

from airflow_zen import Each, LogUniform, Output, best, ml_step, sweep
from airflow_zen.errors import StepDefinitionError


@ml_step
def train(values: list, depth: int) -> dict:
    return {"auc": depth}


@ml_step
def listed(depth: int) -> Annotated[list[int], Each]:
    return [depth]


@ml_step
def named(depth: int) -> Output(model=list, parameters=dict):
    return [depth], {}


DEPTHS = {"depth": [1, 2]}


@pytest.mark.parametrize(
    ("step", "space", "options", "told"),
    [
        (train, {"depht": [1]}, {}, "names 'depht', which is no parameter of 'train'"),
        (train, DEPTHS, {"sampler": "bayes"}, "is 'grid', 'random', 'tpe'"),
        (train, DEPTHS, {"sampler": "tpe", "trials": 4}, "metric='auc'"),
        (train, DEPTHS, {"sampler": "random"}, r"sweep\(trials=…\) is a number"),
        (train, DEPTHS, {"trials": 0}, r"sweep\(trials=…\) is a number"),
        (train, DEPTHS, {"parallel": 0}, r"sweep\(parallel=…\) is a number"),
        (train, DEPTHS, {"mode": "best"}, "'max' or 'min'"),
        (train, DEPTHS, {"min_success": 80}, "share from 0 to 1"),
        (train, DEPTHS, {"pruner": "mean", "metric": "auc"}, "'median', 'percentile'"),
        (train, DEPTHS, {"pruner": "median", "metric": "auc", "pruner_options": {"startup": 8}}, "has 'startup'"),
        (train, DEPTHS, {"pruner_options": {"n_startup_trials": 8}}, "needs a pruner"),
        (train, {"depth": LogUniform(1, 2)}, {"sampler": "grid"}, "takes lists of values"),
        (listed, DEPTHS, {}, "no list marked Each"),
        (named, DEPTHS, {}, "none of them 'parameters'"),
    ],
)
def test_what_cannot_be_swept_is_refused(step, space, options, told):
    """The error names the value, and what to write instead."""
    with DAG("d"), pytest.raises(StepDefinitionError, match=told):
        sweep(step, space, **options)


def test_parameter_of_the_space_is_not_given_too():
    """An argument that the sweep chooses cannot be fixed."""
    with DAG("d"), pytest.raises(StepDefinitionError, match="'depth' is in the space"):
        sweep(train, DEPTHS)([1], depth=3)


def test_more_trials_than_airflow_maps_are_refused(monkeypatch):
    """More trials than `[core] max_map_length` in one mapped task are refused with two ways out, which work."""
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "5")
    space = {"depth": list(range(12))}
    with DAG("d") as dag:
        with pytest.raises(StepDefinitionError, match=r"parallel=5, .* or raise \[core\] max_map_length\."):
            sweep(train, space)([1])
        sweep(train, space, parallel=5)([1])
    mapped = [task for task in dag.tasks if task.is_mapped]
    assert [len(task.op_kwargs_expand_input.value) for task in mapped] == [5, 5, 2]
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "12")
    with DAG("d") as dag:
        sweep(train, space)([1])
    (mapped,) = [task for task in dag.tasks if task.is_mapped]
    assert len(mapped.op_kwargs_expand_input.value) == 12


def test_best_needs_trials_and_a_metric():
    """`best` takes what a sweep returns, and a metric where the sweep has none."""
    with DAG("d"):
        trials = sweep(train, DEPTHS)([1])
        with pytest.raises(StepDefinitionError, match="metric='auc'"):
            best(trials)
        with pytest.raises(StepDefinitionError, match="takes what sweep"):
            best([1], metric="auc")


def test_plain_function_is_swept():
    """A function without a decorator becomes a step of the sweep."""
    with DAG("d") as dag:
        sweep(train.function, DEPTHS)([1])
    assert dag.task_ids == ["sweep_train.trials"]


def test_parsing_a_sweep_imports_no_optuna():
    """A DAG file with a sweep is parsed without Optuna and without libraries of data."""
    code = (
        "import sys\nfrom airflow.sdk import DAG\nfrom airflow_zen import Uniform, best, sweep\n"
        "def train(rate: float) -> dict: ...\n"
        "with DAG('d'): best(sweep(train, {'rate': Uniform(0, 1)}, trials=9, sampler='tpe', metric='auc')())\n"
        "print([name for name in ('optuna', 'pandas', 'mlflow', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_optuna_is_asked_for_where_the_dag_is_parsed(monkeypatch):
    """Without Optuna its samplers are refused with two ways out: its extra, and a sampler that needs none."""
    monkeypatch.setattr("airflow_zen.decorators.sweep.find_spec", lambda name: None)
    with DAG("d"):
        told = r"sweep\(sampler='tpe'\) needs Optuna. Install airflow-provider-zen\[optuna\], or write sampler='random'"
        with pytest.raises(StepDefinitionError, match=told):
            sweep(train, DEPTHS, sampler="tpe", trials=4, metric="auc")
        sweep(train, DEPTHS, sampler="random", trials=4)([1])
