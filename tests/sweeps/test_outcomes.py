"""Promises of outcomes: what a trial's metric is, which trial is the best, and when a sweep has failed."""

import pytest

from airflow_zen.errors import SweepError
from airflow_zen.sweeps.outcomes import Outcome, TrialState, best_outcome, check_success


def outcome(number, auc=None, state=TrialState.SUCCEEDED, error=""):
    metrics = {} if auc is None else {"auc": auc}
    return Outcome(number, {"depth": number}, state, metrics, error=error)


def test_best_is_the_first_of_the_best_by_mode():
    """The best has the greatest or the smallest metric, the first of equal ones; NaN, failed and pruned ones do not count."""
    found = [outcome(0, 0.5), outcome(1, float("nan")), outcome(2, 0.7), outcome(3, 0.7), outcome(4, 0.2)]
    found += [outcome(5, 9.0, TrialState.PRUNED), outcome(6, state=TrialState.FAILED)]
    assert best_outcome(found, "auc", "max").number == 2
    assert best_outcome(found, "auc", "min").number == 4


def test_metric_that_a_trial_does_not_have_is_an_error():
    """The error names the trial, the metric and those that there are."""
    with pytest.raises(SweepError, match=r"Trial 3 \(depth=3\) has no metric 'f1'; its metrics are: 'auc'"):
        best_outcome([outcome(3, 0.5)], "f1", "max")


def test_sweep_without_a_value_is_an_error():
    """Where no trial has a value there is no best one."""
    with pytest.raises(SweepError, match="No trial has a value of 'auc'"):
        best_outcome([outcome(0, state=TrialState.FAILED)], "auc", "max")


def test_too_many_failures_are_named():
    """One failure of five is allowed by 0.8, two are not; the error has the parameters and the errors of the trials."""
    good = [outcome(number, 0.5) for number in range(3)]
    bad = [outcome(number, state=TrialState.FAILED, error="ValueError: odd") for number in (3, 4)]
    check_success([*good, outcome(5, 0.1), bad[0]], 5, 0.8)
    with pytest.raises(
        SweepError, match=r"2 of 5 trials failed(.|\n)*- trial 3 \(depth=3\): ValueError: odd\n- trial 4"
    ):
        check_success([*good, *bad], 5, 0.8)


@pytest.mark.parametrize(("succeeded", "min_success"), [(7, 0.28), (14, 0.56)])
def test_the_share_is_the_decimal_number(succeeded, min_success):
    """A share that is reached exactly is enough, also where its product is larger in binary; one trial less is not."""
    bad = [outcome(number, state=TrialState.FAILED) for number in range(25 - succeeded)]
    check_success(bad, 25, min_success)
    with pytest.raises(SweepError, match="trials failed"):
        check_success([*bad, outcome(25, state=TrialState.FAILED)], 25, min_success)


def test_pruned_trials_have_not_failed():
    """A pruned trial counts as a success."""
    check_success([outcome(number, state=TrialState.PRUNED) for number in range(5)], 5, 1.0)
