"""The outcomes of the trials of a sweep, as the records of their step runs tell them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.errors import SweepError
from airflow_zen.runs.step_run import StepState
from airflow_zen.steps.trial import METRICS, REPORTS, TRIAL, EarlierTrial

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.runs.records import StepRunRecords
    from airflow_zen.runs.step_run import StepRun

_MAX_NAMED = 5


class TrialState(StrEnum):
    """How a trial ended."""

    SUCCEEDED = "succeeded"
    PRUNED = "pruned"
    FAILED = "failed"


class Outcome(msgspec.Struct, frozen=True):
    """One trial: its number in the sweep, its parameters, and what its latest try left."""

    number: int
    parameters: Mapping[str, Any]
    state: TrialState
    metrics: Mapping[str, float] = msgspec.field(default_factory=dict)
    reports: Mapping[str, float] = msgspec.field(default_factory=dict)
    outputs: Mapping[str, ArtifactRef] = msgspec.field(default_factory=dict)
    error: str = ""

    def value(self, metric: str) -> float | None:
        """Return a metric of a successful trial; None of another one, and for NaN.

        Raises `SweepError` for a trial without it.
        """
        if self.state is not TrialState.SUCCEEDED:
            return None
        if metric not in self.metrics:
            known = ", ".join(map(repr, sorted(self.metrics))) or "none"
            raise SweepError(
                f"Trial {self} has no metric {metric!r}; its metrics are: {known}. Return it in a dict or as an output of "
                f"its own, or log it: log_metadata({{{metric!r}: …}})."
            )
        found = self.metrics[metric]
        return None if math.isnan(found) else found

    def __str__(self) -> str:
        """Return the number and the parameters."""
        values = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        return f"{self.number} ({values})"


def read_outcomes(
    records: StepRunRecords, dag_id: str, run_id: str, task_id: str, proposals: Sequence[Mapping[str, Any]], first: int
) -> list[Outcome]:
    """Return the outcomes of the trials of one wave, which is a mapped task; `first` is the number of its first trial."""
    found = records.latest_tries(dag_id, run_id, task_id)
    return [_outcome(first + index, proposed, found.get(index)) for index, proposed in enumerate(proposals)]


def _outcome(number: int, parameters: Mapping[str, Any], run: StepRun | None) -> Outcome:
    if run is None:
        return Outcome(number, dict(parameters), TrialState.FAILED, error="it did not run, or its process was killed")
    state = TrialState.PRUNED if run.is_pruned else TrialState.SUCCEEDED
    return Outcome(
        number,
        dict(parameters),
        state if run.state is StepState.FINISHED else TrialState.FAILED,
        run.metadata.get(f"{TRIAL}:{METRICS}", {}),
        run.metadata.get(f"{TRIAL}:{REPORTS}", {}),
        run.outputs,
        run.error,
    )


def as_earlier(outcomes: Iterable[Outcome], metric: str) -> tuple[EarlierTrial, ...]:
    """Return what a pruner compares with: the trials that have reported something, and not failed."""
    return tuple(
        EarlierTrial(_final(outcome, metric), outcome.reports, outcome.state is TrialState.PRUNED)
        for outcome in outcomes
        if outcome.reports and outcome.state is not TrialState.FAILED
    )


def _final(outcome: Outcome, metric: str) -> float | None:
    last = [*outcome.reports.values()][-1]
    return outcome.metrics.get(metric, last) if outcome.state is TrialState.SUCCEEDED else None


def check_success(outcomes: Sequence[Outcome], trials: int, min_success: float) -> None:
    """Raise `SweepError`, with the failures, where too many of the trials have failed; a pruned one has not."""
    failed = [outcome for outcome in outcomes if outcome.state is TrialState.FAILED]
    # As it is written: 0.28 * 25 is more than 7 in binary.
    if trials - len(failed) >= Fraction(str(min_success)) * trials:
        return
    named = "".join(f"\n- trial {outcome}: {outcome.error}" for outcome in failed[:_MAX_NAMED])
    more = f"\n- and {len(failed) - _MAX_NAMED} more" if len(failed) > _MAX_NAMED else ""
    raise SweepError(
        f"{len(failed)} of {trials} trials failed, and min_success={min_success!r} allows fewer. Correct the step, or lower "
        f"min_success.{named}{more}"
    )


def best_outcome(outcomes: Sequence[Outcome], metric: str, mode: str) -> Outcome:
    """Return the trial with the best metric, of equal ones the first. Raises `SweepError` where no trial has a value."""
    values = [(value, outcome) for outcome in outcomes if (value := outcome.value(metric)) is not None]
    if not values:
        raise SweepError(f"No trial has a value of {metric!r}: all failed, were pruned, or returned NaN.")
    sign = 1 if mode == "max" else -1
    return max(values, key=lambda found: sign * found[0])[1]
