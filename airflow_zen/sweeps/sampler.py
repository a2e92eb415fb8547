"""Optuna's samplers: the parameters of the next trials, from the outcomes of those that have ended."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from airflow_zen.errors import SweepError
from airflow_zen.steps.trial import create_study, import_optuna
from airflow_zen.sweeps.outcomes import Outcome, TrialState
from airflow_zen.sweeps.space import Distribution, IntUniform, LogUniform


class OptunaSampler(msgspec.Struct, frozen=True):
    """Propose trials in waves, each by what the waves before it found.

    `sampler` is one of Optuna's, None for its TPE sampler. Nothing is kept between two waves: the earlier ones are
    proposed again, and their outcomes told. So the parameters of a trial depend on its number, the seed, the space and
    the earlier waves only.
    """

    space: Mapping[str, Distribution]
    metric: str
    mode: str
    seed: int
    sampler: Any = None

    def propose(self, waves: Sequence[Sequence[Outcome]], count: int) -> list[dict[str, Any]]:
        """Return the parameters of the next `count` trials. Raises `SweepError` for a sampler that is not repeatable."""
        optuna = import_optuna("This sampler")
        distributions = {name: _as_optuna(optuna, held) for name, held in self.space.items()}
        study = create_study(optuna, self.mode, sampler=self._new_sampler(optuna))
        for wave in waves:
            asked = [study.ask(distributions) for _ in wave]
            for trial, outcome in zip(asked, wave, strict=True):
                if (parameters := self._parameters(trial)) != outcome.parameters:
                    raise SweepError(
                        f"The sampler proposes {parameters!r} for a trial that ran with {outcome.parameters!r}. Give it a "
                        f"seed, such as TPESampler(seed={self.seed!r}), and clear the whole sweep."
                    )
                _tell(optuna, study, trial, outcome, outcome.value(self.metric))
        return [self._parameters(study.ask(distributions)) for _ in range(count)]

    def _new_sampler(self, optuna: Any) -> Any:
        # A copy: what a sampler remembers of the trials that it has proposed is told again.
        return copy.deepcopy(self.sampler) or optuna.samplers.TPESampler(seed=self.seed, constant_liar=True)

    def _parameters(self, trial: Any) -> dict[str, Any]:
        """Return a trial's parameters; of a choice Optuna knows the positions only."""
        proposed = trial.params
        return {
            name: held[proposed[name]] if isinstance(held, tuple) else proposed[name]
            for name, held in self.space.items()
        }


def _as_optuna(optuna: Any, distribution: Distribution) -> Any:
    found = optuna.distributions
    if isinstance(distribution, tuple):
        return found.CategoricalDistribution(range(len(distribution)))
    if isinstance(distribution, IntUniform):
        return found.IntDistribution(distribution.low, distribution.high)
    is_log = isinstance(distribution, LogUniform)
    return found.FloatDistribution(distribution.low, distribution.high, log=is_log)


def _tell(optuna: Any, study: Any, trial: Any, outcome: Outcome, value: float | None) -> None:
    states = optuna.trial.TrialState
    for step, reported in outcome.reports.items():
        trial.report(reported, int(step))
    if outcome.state is TrialState.PRUNED:
        study.tell(trial, state=states.PRUNED)
    elif value is None:
        study.tell(trial, state=states.FAIL)
    else:
        study.tell(trial, value)
