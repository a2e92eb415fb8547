"""Import in the scheduler what most tasks use: a task is a fork of it, and need not import that again."""

from __future__ import annotations

import sys

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin


@hookimpl
def on_starting(component):
    if "scheduler" in sys.argv:
        import pandas as pd  # noqa: F401
        import sklearn.ensemble
        import sklearn.linear_model  # noqa: F401


class Preload(AirflowPlugin):
    name = "preload"
    listeners = [sys.modules[__name__]]  # noqa: RUF012
