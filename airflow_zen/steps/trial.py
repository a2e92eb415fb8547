"""`report`: the intermediate values of a trial of a sweep, and the decision to stop it early."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from airflow_zen.errors import SweepError, TrialPruned
from airflow_zen.fingerprint import fingerprint
from airflow_zen.lineage.recorder import current_collector
from airflow_zen.type_names import python_scalar

if TYPE_CHECKING:
    from airflow_zen.lineage.recorder import OpenedRun
    from airflow_zen.runs.step_run import StepRun
    from airflow_zen.stack import Stack

TRIAL, REPORTS, METRICS, PRUNED = "trial", "reports", "metrics", "pruned"
"""What is kept of a trial in the metadata of its run, each with the subject `trial:<name>`."""


class EarlierTrial(msgspec.Struct, frozen=True):
    """What a pruner knows of a trial that has ended: its last value, if it has one, and its reports by step."""

    value: float | None
    reports: Mapping[str, float]
    pruned: bool = False


class Trial(msgspec.Struct, frozen=True):
    """What makes a step a trial: its sweep, the metric that the sweep optimizes, and what prunes it.

    `sweep` is the name of the sweep in its DAG. `mode` is `"max"` or `"min"`. `pruner` is the name of a class in
    `optuna.pruners`, empty without pruning, and `earlier` are the trials that it compares with.
    """

    sweep: str
    metric: str = ""
    mode: str = "max"
    parameters: tuple[str, ...] = ()
    pruner: str = ""
    pruner_options: Mapping[str, Any] = msgspec.field(default_factory=dict)
    earlier: tuple[EarlierTrial, ...] = ()

    @property
    def version(self) -> str:
        """The part of the cache key that decides whether the trial is pruned; empty without a pruner."""
        if not self.pruner:
            return ""
        earlier = msgspec.to_builtins(self.earlier)
        return fingerprint([self.pruner, dict(self.pruner_options), self.mode, earlier])

    def is_hopeless(self, reports: Mapping[str, float]) -> bool:
        """Whether the pruner stops a trial with these reports by step, the last of which is new."""
        if not self.pruner:
            return False
        study = self._study()
        trial = study.ask()
        verdict = False
        for step, value in reports.items():
            trial.report(value, int(step))
            verdict = trial.should_prune()
        return bool(verdict)

    def _study(self) -> Any:
        optuna = import_optuna(f"The pruner {self.pruner!r}")
        study = create_study(optuna, self.mode, pruner=self._new_pruner(optuna), study_name=self.sweep)
        states = optuna.trial.TrialState
        for trial in self.earlier:
            study.add_trial(
                optuna.trial.create_trial(
                    state=states.PRUNED if trial.pruned else states.COMPLETE,
                    value=trial.value,
                    intermediate_values={int(step): value for step, value in trial.reports.items()},
                )
            )
        return study

    def _new_pruner(self, optuna: Any) -> Any:
        try:
            return getattr(optuna.pruners, self.pruner)(**self.pruner_options)
        except (TypeError, ValueError) as error:
            raise SweepError(
                f"Optuna's {self.pruner} refuses pruner_options={dict(self.pruner_options)!r}: {error} "
                f"Correct them in the sweep {self.sweep!r}."
            ) from error


def report(metric: float, step: int) -> None:
    """Report a trial's metric after a step, such as an epoch; end the trial if its sweep's pruner decides so.

    A trial that is pruned has no output, and has not failed. MLflow shows the reports as a curve, `<metric>.reported`.
    Outside a step nothing is reported. Raises `SweepError` for a step that is no whole number from 0 on.
    """
    given: Any = step
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise SweepError(f"report(metric, step) takes a whole number from 0 on as its step, got {step!r}.")
    if (collector := current_collector()) is None:
        return
    collector.add({str(step): float(metric)}, TRIAL, REPORTS)
    trial = collector.trial
    if isinstance(trial, Trial) and trial.is_hopeless(collector.facts[f"{TRIAL}:{REPORTS}"]):
        collector.add({"step": step}, TRIAL, PRUNED)
        raise TrialPruned(f"step {step}: {trial.metric or 'metric'} {metric:g}")


def import_optuna(purpose: str) -> Any:
    """Return the module. Raises `SweepError` where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise SweepError(f"{purpose} needs Optuna. Install airflow-provider-zen[optuna].") from error
    return optuna


def create_study(optuna: Any, mode: str, **options: Any) -> Any:
    """Return an empty study in memory, without the line that Optuna logs about it."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction="maximize" if mode == "max" else "minimize", **options)
    finally:
        optuna.logging.set_verbosity(verbosity)


def with_trial_metrics(run: StepRun, trial: Trial, stack: Stack, opened: OpenedRun | None = None) -> StepRun:
    """Return the run of a trial with the numbers that it returned, logged or reported among its metadata.

    Where the sweep's metric is not among them, it is looked up in the open MLflow run.
    """
    found = {**_logged(run, trial), **_returned(run, stack), **run.metadata.get(f"{TRIAL}:{METRICS}", {})}
    if opened and trial.metric not in found and not run.is_pruned:
        found = {**stack.lineage.logged_metrics(opened), **found}
    return replace(run, metadata={**run.metadata, f"{TRIAL}:{METRICS}": found})


def _logged(run: StepRun, trial: Trial) -> dict[str, float]:
    reports = run.metadata.get(f"{TRIAL}:{REPORTS}", {})
    last = [*reports.values()][-1:] if trial.metric else []
    return _numbers(run.metadata.get("", {})) | dict(zip([trial.metric], last, strict=False))


def _returned(run: StepRun, stack: Stack) -> dict[str, float]:
    """Return the numbers among the outputs, and in a dict that is small enough to be a part of the artifact's ref."""
    found: dict[str, float] = {}
    small = {name: ref for name, ref in run.outputs.items() if ref.inline and ref.encoding.startswith("python.json@")}
    with stack.scratch_directory() as scratch:
        for name, ref in small.items():
            value = stack.load(ref, scratch)
            found |= _numbers(value if isinstance(value, Mapping) else {name: value})
    return found


def _numbers(values: Mapping[Any, Any]) -> dict[str, float]:
    plain = {str(name): python_scalar(value) for name, value in values.items()}
    return {name: float(held) for name, held in plain.items() if type(held) in (int, float)}
