"""Promises of Optuna's samplers between waves."""

import pytest

from airflow_zen.errors import SweepError
from airflow_zen.sweeps.outcomes import Outcome, TrialState
from airflow_zen.sweeps.sampler import OptunaSampler
from airflow_zen.sweeps.space import IntUniform, LogUniform, Uniform, as_space

optuna = pytest.importorskip("optuna")

SPACE = as_space({"name": ["a", None], "rate": LogUniform(1e-3, 1), "share": Uniform(0, 1), "leaves": IntUniform(2, 9)})


def ran(sampler, sizes):
    """Give the outcomes of waves of these sizes, of a metric that is best at a small rate."""
    waves = []
    for size in sizes:
        first = sum(map(len, waves))
        proposed = sampler.propose(waves, size)
        waves.append(
            [
                Outcome(first + at, point, TrialState.SUCCEEDED, {"loss": point["rate"]})
                for at, point in enumerate(proposed)
            ]
        )
    return waves


def parameters(waves):
    return [outcome.parameters for wave in waves for outcome in wave]


def test_proposals_are_repeatable_and_a_wider_sweep_begins_with_the_narrower():
    """The same seed proposes the same trials, whatever the size of the last wave; another seed does not."""
    sampler = OptunaSampler(SPACE, "loss", "min", seed=7)
    narrow, wide = parameters(ran(sampler, [4, 4, 2])), parameters(ran(sampler, [4, 4, 4, 4]))
    assert wide[:10] == narrow
    assert len({point["rate"] for point in wide}) == 16
    assert parameters(ran(OptunaSampler(SPACE, "loss", "min", seed=8), [4])) != narrow[:4]


def test_sampler_learns_from_earlier_waves():
    """After enough waves most proposals are near the best trials, which random ones are not."""
    rates = [point["rate"] for point in parameters(ran(OptunaSampler(SPACE, "loss", "min", seed=7), [10] * 4))]
    assert sorted(rates[20:])[10] < sorted(rates[:10])[5]


def test_own_sampler_with_a_seed_is_used_in_every_wave():
    """A sampler object stays as it was given: the next wave does not repeat its first draws."""
    sampler = OptunaSampler(SPACE, "loss", "min", 0, optuna.samplers.RandomSampler(seed=3))
    first, again = parameters(ran(sampler, [3, 3])), parameters(ran(sampler, [6]))
    assert first == again


def test_sampler_without_a_seed_is_refused():
    """A sampler that proposes other trials when it is asked again cannot go on, and the error names the remedy."""
    sampler = OptunaSampler(SPACE, "loss", "min", 0, optuna.samplers.RandomSampler())
    waves = ran(sampler, [2])
    waves[0][0].parameters["rate"] = 0.5
    with pytest.raises(SweepError, match="Give it a seed"):
        sampler.propose(waves, 2)


def test_failed_and_pruned_trials_teach_nothing_wrong():
    """Trials without a value are told as failed and pruned, and the next wave is proposed."""
    sampler = OptunaSampler(SPACE, "loss", "min", seed=7)
    proposed = sampler.propose([], 3)
    wave = [
        Outcome(0, proposed[0], TrialState.FAILED),
        Outcome(1, proposed[1], TrialState.PRUNED, reports={"0": 1.0}),
        Outcome(2, proposed[2], TrialState.SUCCEEDED, {"loss": float("nan")}),
    ]
    assert len(sampler.propose([wave], 2)) == 2
