"""`sweep`: a step is run with many parameters, one mapped task for each; `best` gives the result of the best."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from airflow.providers.common.compat.sdk import conf
from airflow.sdk import TaskGroup
from airflow.sdk.bases.decorator import get_unique_task_id
from attr import evolve
from msgspec.structs import replace

from airflow_zen.decorators.ml_step import StepDecorator, _MLStepDecoratedOperator, ml_step
from airflow_zen.errors import StepDefinitionError
from airflow_zen.operators.ml_step import StepOutputs
from airflow_zen.operators.sweep import (
    HISTORY,
    PARAMETERS,
    BestTrialOperator,
    ProposeTrialsOperator,
    Trials,
    Wave,
)  # fmt: skip
from airflow_zen.steps.outputs import SINGLE_OUTPUT, Outputs, declared_outputs
from airflow_zen.steps.step import Step
from airflow_zen.steps.trial import EarlierTrial, Trial
from airflow_zen.sweeps.pruners import find_pruner
from airflow_zen.sweeps.sampler import OptunaSampler
from airflow_zen.sweeps.space import Distribution, as_space, grid_points, sample_points

_WAVE = 8
_VALUE = "value"


class _TrialOperator(_MLStepDecoratedOperator):
    """The operator of a trial; `proposed_by` is the task that pushes what its pruner compares with."""

    def __init__(self, *, trial: Trial, proposed_by: str = "", **options: Any) -> None:
        self.trial = trial
        self.proposed_by = proposed_by
        super().__init__(**options)

    @property
    def step(self) -> Step:
        """The function with its options; what decides whether it is pruned is in the cache key."""
        step = super().step
        return replace(step, version=f"{step.version} {self.trial.version}".strip(), trial=self.trial)

    def execute(self, context: Any) -> Any:
        """Run the trial."""
        if self.trial.pruner:
            history = context["ti"].xcom_pull(task_ids=self.proposed_by, key=HISTORY) or []
            self.trial = replace(self.trial, earlier=tuple(EarlierTrial(**earlier) for earlier in history))
        return super().execute(context)


def sweep(
    train: Any,
    space: Mapping[str, Any],
    *,
    trials: int | None = None,
    seed: int = 0,
    sampler: Any = "",
    parallel: int | None = None,
    metric: str = "",
    mode: str = "max",
    min_success: float = 0.8,
    pruner: str = "",
    pruner_options: Mapping[str, Any] | None = None,
    task_id: str = "",
) -> Callable[..., Trials]:
    """Return a function that adds a sweep to the DAG: called with the other arguments of `train`, it returns the trials.

    `train`: a step, or a function. `space`: by parameter a list of values, `Uniform`, `LogUniform` or `IntUniform`.
    `trials`: their number; of a grid all combinations. `sampler`: `"grid"`, `"random"`, `"tpe"` or one of Optuna's; by
    default a grid of lists, else random. `parallel`: the trials of a wave; Optuna learns between waves of 8, the others
    need no waves. `metric`, `mode`: what Optuna optimizes, and the default of `best`: a number that `train` returns, alone
    or in a dict, logs or reports, and `"max"` or `"min"`. `min_success`: the share of trials that must not fail.
    `pruner`: `"median"`, `"percentile"`, `"successive_halving"`, `"hyperband"`, `"threshold"`, `"patient"` or
    `"wilcoxon"`, Optuna's pruner that stops trials where they `report`, with `pruner_options`. `task_id`: the id of the
    task group, by default `sweep_` with the name of the step. Raises `StepDefinitionError` for what cannot be swept.
    """
    step: Any = train if isinstance(train, StepDecorator) else ml_step(train)
    plan = _Plan(step, as_space(space), trials, seed, sampler, parallel)
    options = {} if pruner_options is None else pruner_options
    pruner = find_pruner(pruner, options)
    _check_metric(metric, mode, is_needed=bool(pruner) or plan.is_adaptive)
    share: Any = min_success
    if type(share) not in (int, float) or not 0 <= share <= 1:
        raise StepDefinitionError(f"sweep(min_success=…) is a share from 0 to 1, such as 0.8, got {min_success!r}.")
    trial = Trial("", metric, mode, tuple(plan.space), pruner, dict(options))
    name = task_id or f"sweep_{step.kwargs.get('task_id') or step.function.__name__}"
    return lambda *args, **kwargs: _add_trials(plan, trial, name, min_success, _fixed(plan, args, kwargs))


def best(trials: Trials, metric: str = "", mode: str = "", *, task_id: str = "", **options: Any) -> Any:
    """Add a task to the DAG that finds the best trial; return its outputs, then its parameters.

    So a model is `model, parameters = best(trials, metric="auc")`. The first is named `value` where a trial has one output,
    the last `parameters`. The artifacts are the trial's own. `metric` and `mode` (`"max"` or `"min"`) are by default those of the sweep. The task runs after failed trials, and fails
    where they are more than the sweep's `min_success` allows. `options` are those of Airflow's operators. Raises
    `StepDefinitionError` for what is no sweep, or without a metric.
    """
    if not isinstance(trials, Trials):
        raise StepDefinitionError(f"best(trials, …) takes what sweep(…)(…) returns, got {trials!r}.")
    metric, mode = metric or trials.trial.metric, mode or trials.trial.mode
    _check_metric(metric, mode, is_needed=True)
    name = str(get_unique_task_id(task_id or f"best_{trials.trial.sweep.rpartition('.')[2].removeprefix('sweep_')}"))
    operator = BestTrialOperator(task_id=name, trials=replace(trials, tasks=()), metric=metric, mode=mode, **options)
    for task in trials.tasks:
        operator.set_upstream(task.operator)
    return StepOutputs(operator, (*trials.outputs, PARAMETERS))


class _Plan:
    """The step, the space and the trials of a sweep. Raises `StepDefinitionError` for what cannot be swept."""

    def __init__(
        self, step: Any, space: dict[str, Distribution], trials: Any, seed: int, sampler: Any, parallel: Any
    ) -> None:
        self.step, self.space = step, space
        _check_parameters(step.function, space)
        is_grid = sampler == "grid" or (not sampler and trials is None and _are_choices(space))
        self.is_adaptive = not is_grid and sampler not in ("", "random")
        _check_sampler(sampler, self.is_adaptive)
        _check_count("trials", trials, is_optional=is_grid)
        _check_count("parallel", parallel, is_optional=True)
        self.sampler = None if sampler == "tpe" else sampler
        self.seed = seed
        points = (
            grid_points(space, trials) if is_grid else [] if self.is_adaptive else sample_points(space, trials, seed)
        )
        self.points: Sequence[dict[str, Any]] = points
        self.count = len(points) or int(trials)
        self.parallel = parallel

    def sizes(self, *, in_waves: bool) -> Iterator[tuple[int, int]]:
        """Yield the first trial of each wave and the number of its trials."""
        size = self.parallel or (_WAVE if in_waves else self.count)
        limit = conf.getint("core", "max_map_length")
        if min(size, self.count) > limit:
            raise StepDefinitionError(
                f"This sweep has {min(size, self.count)} trials in one mapped task, and Airflow allows {limit}. Write "
                f"parallel={limit}, which makes several tasks, or raise [core] max_map_length."
            )
        yield from ((first, min(size, self.count - first)) for first in range(0, self.count, size))


def _add_trials(plan: _Plan, trial: Trial, name: str, min_success: float, fixed: Mapping[str, Any]) -> Trials:
    """Add the tasks of a sweep to the DAG, in a task group."""
    in_waves = plan.is_adaptive or bool(trial.pruner)
    sizes = [*plan.sizes(in_waves=in_waves)]
    with TaskGroup(name, add_suffix_on_collision=True) as group:
        trial = replace(trial, sweep=str(group.group_id))
        found = Trials(trial, (), min_success, plan.step.kwargs.get("stack", ""), _output_names(plan.step.function))
        for number, (first, count) in enumerate(sizes, 1):
            suffix = f"_{number}" if len(sizes) > 1 else ""
            found = _add_wave(plan, found, fixed, first, count, suffix, in_waves=in_waves)
    return found


def _add_wave(
    plan: _Plan, before: Trials, fixed: Mapping[str, Any], first: int, count: int, suffix: str, *, in_waves: bool
) -> Trials:
    """Add the mapped task of a wave, after the task that proposes it; return the trials with those of the wave."""
    points = plan.points[first : first + count]
    proposed: Any = points
    options: dict[str, Any] = {"trial": before.trial}
    if in_waves:
        proposing = _add_proposal(plan, before, points, count, suffix)
        proposed = proposing.output
        options["proposed_by"] = proposing.task_id
    step = evolve(plan.step, operator_class=_TrialOperator).override(task_id=f"trials{suffix}", **options)
    mapped = step.partial(**fixed).expand_kwargs(proposed)
    wave = Wave(mapped.operator.task_id, first, count, tuple(points), options.get("proposed_by", ""))
    return replace(before, waves=(*before.waves, wave), tasks=(*before.tasks, mapped))


def _add_proposal(plan: _Plan, before: Trials, points: Sequence[Mapping[str, Any]], count: int, suffix: str) -> Any:
    trial = before.trial
    sampler = None
    if plan.is_adaptive:
        sampler = OptunaSampler(plan.space, trial.metric, trial.mode, plan.seed, plan.sampler)
    proposing = ProposeTrialsOperator(
        task_id=f"propose{suffix}",
        trials=replace(before, tasks=()),
        count=count,
        total=plan.count,
        sampler=sampler,
        proposals=points,
    )
    for task in before.tasks:
        proposing.set_upstream(task.operator)
    return proposing


def _fixed(plan: _Plan, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that all trials have in common by name."""
    bound = inspect.signature(plan.step.function).bind_partial(*args, **kwargs).arguments
    if twice := sorted(plan.space.keys() & bound.keys()):
        raise StepDefinitionError(f"Parameter {twice[0]!r} is in the space of this sweep, and cannot be given, too.")
    return dict(bound)


def _output_names(function: Callable[..., Any]) -> tuple[str, ...]:
    names = _outputs(function).names
    return (_VALUE,) if names == (SINGLE_OUTPUT,) else names


def _outputs(function: Callable[..., Any]) -> Outputs:
    """Return the outputs of a trial. Raises `StepDefinitionError` for those that `best` cannot return."""
    outputs = declared_outputs(function)
    if outputs.each or not outputs.names or PARAMETERS in outputs.names:
        raise StepDefinitionError(
            f"A trial returns one value or several named ones, none of them {PARAMETERS!r}, and no list marked Each; "
            f"{function.__name__!r} declares otherwise. Return a dict of numbers, or the model."
        )
    return outputs


def _are_choices(space: Mapping[str, Distribution]) -> bool:
    return all(isinstance(held, tuple) for held in space.values())


def _check_parameters(function: Callable[..., Any], space: Mapping[str, Distribution]) -> None:
    _outputs(function)
    parameters = inspect.signature(function).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in space:
        if name not in parameters and not takes_any:
            raise StepDefinitionError(
                f"sweep(space=…) names {name!r}, which is no parameter of {function.__name__!r}: {list(parameters)}."
            )


def _check_sampler(sampler: Any, is_adaptive: bool) -> None:
    if is_adaptive and sampler != "tpe" and not hasattr(sampler, "sample_relative"):
        raise StepDefinitionError(
            f"sweep(sampler=…) is 'grid', 'random', 'tpe', or one of Optuna's such as CmaEsSampler(seed=7), got {sampler!r}."
        )
    if is_adaptive and find_spec("optuna") is None:
        raise StepDefinitionError(
            "sweep(sampler='tpe') needs Optuna. Install airflow-provider-zen[optuna], or write sampler='random'."
        )


def _check_metric(metric: Any, mode: Any, *, is_needed: bool) -> None:
    if not isinstance(metric, str) or (is_needed and not metric):
        raise StepDefinitionError(f"The name of the metric is needed here, such as metric='auc', got {metric!r}.")
    if mode not in ("max", "min"):
        raise StepDefinitionError(f"mode is 'max' or 'min', got {mode!r}.")


def _check_count(option: str, value: Any, *, is_optional: bool) -> None:
    if value is None and is_optional:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise StepDefinitionError(f"sweep({option}=…) is a number of trials from 1 on, got {value!r}.")
