"""Promises of trials of a sweep."""

import sys

import pytest

from airflow_zen.errors import SweepError
from airflow_zen.steps.trial import import_optuna


def test_optuna_is_asked_for_where_it_is_needed(monkeypatch):
    """An environment without Optuna is told what needs it, and which extra has it."""
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SweepError, match=r"Pruning needs Optuna. Install airflow-provider-zen\[optuna\]."):
        import_optuna("Pruning")
