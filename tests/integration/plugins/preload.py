"""Import before a fork what DAG files import: a task is a fork of the scheduler, a parse one of the DAG processor."""

from __future__ import annotations

import sys

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin


@hookimpl
def on_starting(component):
    if {"scheduler", "dag-processor"} & {*sys.argv}:
        import mlflow  # noqa: F401
        import pandas as pd  # noqa: F401
        import sklearn.ensemble
        import sklearn.linear_model  # noqa: F401


class Preload(AirflowPlugin):
    name = "preload"
    listeners = [sys.modules[__name__]]  # noqa: RUF012
