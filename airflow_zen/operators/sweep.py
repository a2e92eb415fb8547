"""The tasks around the trials of a sweep: one that proposes a wave of trials, and one that finds the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec
from airflow.sdk import BaseOperator, TriggerRule

from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.operators.stack_selection import resolve_stack_name
from airflow_zen.steps.trial import Trial
from airflow_zen.sweeps.outcomes import Outcome, as_earlier, best_outcome, check_success, read_outcomes
from airflow_zen.sweeps.sampler import OptunaSampler

HISTORY = "history"
"""The XCom key of what the pruners of a wave's trials compare with."""


class Wave(msgspec.Struct, frozen=True):
    """Trials that run side by side, as one mapped task.

    `first` is the number of the first trial of `count`. `proposals` are their parameters where they are known when the
    DAG is parsed; otherwise the task `proposed_by` returns them.
    """

    task_id: str
    first: int
    count: int
    proposals: Sequence[Mapping[str, Any]] = ()
    proposed_by: str = ""

    def outcomes(self, context: Any, stack: Any) -> list[Outcome]:
        """Return how the trials ended; one that has no record failed."""
        ti = context["ti"]
        pulled = ti.xcom_pull(task_ids=self.proposed_by) if self.proposed_by else None
        proposals = self.proposals or pulled or [{}] * self.count
        return read_outcomes(stack.records, ti.dag_id, ti.run_id, self.task_id, proposals, self.first)


class Trials(msgspec.Struct, frozen=True):
    """The trials of a sweep in a DAG, for `best`.

    `outputs` are the names of the outputs of each trial, `tasks` the mapped tasks. `trial` has the metric.
    """

    trial: Trial
    waves: tuple[Wave, ...]
    min_success: float
    stack: str
    outputs: tuple[str, ...]
    tasks: tuple[Any, ...] = ()

    @property
    def count(self) -> int:
        """The number of trials."""
        return sum(wave.count for wave in self.waves)


class _SweepOperator(BaseOperator):
    """The base of the tasks that read how trials ended; they run after failed trials, too."""

    ui_color = "#e6f2ef"

    def __init__(self, *, trials: Trials, **options: Any) -> None:
        super().__init__(**{"trigger_rule": TriggerRule.ALL_DONE, **options})
        self.trials = trials

    def _outcomes(self, context: Any) -> list[list[Outcome]]:
        """Return the outcomes by wave. Raises `SweepError` where too many trials have failed already."""
        settings = Settings.read(resolve_stack_name(context["dag_run"].conf, self.trials.stack))
        stack = open_stack(settings, lineage=False)
        return [wave.outcomes(context, stack) for wave in self.trials.waves]


class ProposeTrialsOperator(_SweepOperator):
    """Return the parameters of the next wave of trials, by how those of `trials`, the waves before it, ended.

    `sampler` proposes `count` trials; without it `proposals` are the next ones. `total` is the number of trials of the
    whole sweep: where too many have failed, no more are proposed. Raises `SweepError`.
    """

    custom_operator_name = "sweep"

    def __init__(
        self,
        *,
        count: int,
        total: int,
        sampler: OptunaSampler | None = None,
        proposals: Sequence[Mapping[str, Any]] = (),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.count, self.total = count, total
        self.sampler, self.proposals = sampler, proposals

    def execute(self, context: Any) -> list[dict[str, Any]]:
        """Return a list of keyword arguments, and push what the pruner compares with."""
        waves, trial = self._outcomes(context), self.trials.trial
        ended = [*chain.from_iterable(waves)]
        check_success(ended, self.total, self.trials.min_success)
        if trial.pruner:
            context["ti"].xcom_push(HISTORY, msgspec.to_builtins(as_earlier(ended, trial.metric)))
        if self.sampler is None:
            return [dict(proposed) for proposed in self.proposals]
        return self.sampler.propose(waves, self.count)


class BestTrialOperator(_SweepOperator):
    """Return the outputs of the trial with the best metric, as the trial's own artifacts, and its `parameters`.

    `metric` and `mode` are by default those of the sweep. Raises `SweepError` where too many trials have failed, with
    the failures, and where no trial has the metric.
    """

    custom_operator_name = "best"

    def __init__(self, *, metric: str, mode: str, **options: Any) -> None:
        super().__init__(multiple_outputs=True, **options)
        self.metric, self.mode = metric, mode

    def execute(self, context: Any) -> dict[str, Any]:
        """Return refs by output name, and the parameters; nothing is downloaded."""
        trials, outcomes = self.trials, [*chain.from_iterable(self._outcomes(context))]
        check_success(outcomes, trials.count, trials.min_success)
        found = best_outcome(outcomes, self.metric, self.mode)
        self.log.info(
            "The best of %d trials is %s: %s = %s", len(outcomes), found, self.metric, found.metrics[self.metric]
        )
        refs = [ref.to_wire() for ref in found.outputs.values()]
        return {**dict(zip(trials.outputs, refs, strict=True)), PARAMETERS: dict(found.parameters)}


PARAMETERS = "parameters"
"""The output of `best` with the parameters of the winner."""
