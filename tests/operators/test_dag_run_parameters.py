"""Promises of `airflow_zen.operators.execute`: a step's record has what its DAG run was triggered with."""

from datetime import datetime

import pytest
from airflow.sdk import DAG, Param

from airflow_zen import ml_step
from airflow_zen.config.settings import open_stack
from tests.harness import run_dag


@ml_step
def one() -> int:
    return 1


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        ({}, {"rate": 0.5, "name": "x", "token": "***"}),
        (
            {"rate": 0.7, "zen": {"cache": False}},
            {"rate": 0.7, "name": "x", "token": "***", "conf.zen": {"cache": False}},
        ),
        (
            {"db": {"password": "p", "host": "h"}},
            {"rate": 0.5, "name": "x", "token": "***", "conf.db": {"password": "***", "host": "h"}},
        ),
    ],
)
def test_params_and_conf(root, conf, expected):
    """The record has the values of the DAG's params, and the rest of the conf as `conf.<name>`; secrets are masked."""
    params = {"rate": Param(0.5, type="number"), "name": "x", "token": "t"}
    with DAG("triggered", schedule=None, start_date=datetime(2026, 1, 1), params=params) as dag:
        one.override(params={"own": 1})()
    assert run_dag(dag, conf=conf).states == {"one": "success"}
    (run,) = open_stack().records.read_dag_run("triggered", "manual__1")
    assert run.dag_run_parameters == expected
