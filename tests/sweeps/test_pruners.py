"""Promises of the pruners of a sweep and their options."""

import inspect

import pytest

from airflow_zen.errors import StepDefinitionError, SweepError
from airflow_zen.steps.trial import Trial
from airflow_zen.sweeps.pruners import PRUNERS, find_pruner

optuna = pytest.importorskip("optuna")


@pytest.mark.parametrize("name", PRUNERS)
def test_options_are_those_of_optuna(name):
    """Each pruner's options are those of Optuna's class, needed ones first: nothing that works is refused."""
    class_name, needed, others = PRUNERS[name]
    found = inspect.signature(getattr(optuna.pruners, class_name)).parameters.values()
    without_default = [each.name for each in found if each.default is each.empty]
    assert ([*needed], [*needed, *others]) == (without_default, [each.name for each in found])


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("mean", {}, "is one of 'median', 'percentile'.*got 'mean'"),
        ("median", {"startup": 8}, "has 'startup', which is no option of pruner 'median'. .*'n_startup_trials'"),
        ("median", [8], r"is a dict by option, .*got \[8\]"),
        ("percentile", {"n_startup_trials": 2}, "needs pruner_options with 'percentile'"),
        ("", {"n_startup_trials": 2}, "needs a pruner. Write pruner='median'"),
    ],
)
def test_wrong_options_are_refused(name, options, told):
    """The error names the option, and those that there are."""
    with pytest.raises(StepDefinitionError, match=told):
        find_pruner(name, options)


def test_wrong_value_of_an_option_is_named():
    """A value that Optuna refuses fails the trial with the options, Optuna's reason and the sweep."""
    trial = Trial("sweep_train", "auc", pruner="PercentilePruner", pruner_options={"percentile": 250})
    told = r"PercentilePruner refuses pruner_options=\{'percentile': 250\}: .*Correct them in the sweep 'sweep_train'"
    with pytest.raises(SweepError, match=told):
        trial.is_hopeless({"0": 0.5})
