"""The evaluation of a model on a table: metrics, thresholds, a baseline on the same rows, and slices."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import ValidationDefinitionError, ZenError
from airflow_zen.validation.evaluation_limits import check_latency, check_size
from airflow_zen.validation.evaluation_report import EvaluationReport, Plot, Slice
from airflow_zen.validation.report import Check, ValidationReport

if TYPE_CHECKING:
    import pandas as pd

    from airflow_zen.validation.evaluation_metrics import Metric, Predictions

log = logging.getLogger("airflow_zen.validation")

RESAMPLES, SMALL_SLICE = 1000, 30
_SEED, _LEVEL = 0, 0.95
_MAX_VALUES, _MAX_SLICES, _RANGES = 20, 200, 4


@dataclass(frozen=True)
class Threshold:
    """What a metric must be.

    limit: the worst value that passes, the least or the greatest by the metric. max_loss: fails if the model is worse than
    the baseline by more than this in all of the bootstrap interval; None does not compare it. min_gain: fails unless the model is better than the
    baseline by at least this in all of the interval; None asks for no gain.
    """

    limit: float | None = None
    max_loss: float | None = 0.0
    min_gain: float | None = None


def evaluate_model(
    model: Any,
    table: pd.DataFrame,
    target: str,
    metrics: Sequence[Any] | None = None,
    slices: Sequence[str] = (),
    baseline: Any = None,
    baseline_name: str = "",
    thresholds: Mapping[str, Any] | None = None,
    checks: Sequence[Any] = (),
    task_type: str = "",
    resamples: int = RESAMPLES,
    max_bytes: int | None = None,
    model_bytes: int | None = None,
    max_latency: float | None = None,
) -> EvaluationReport:
    """Return the report of a model on a table; what cannot be evaluated is a failed check.

    `baseline` is another model, or None; `baseline_name` is what was asked for, which may not exist yet. `thresholds` are
    numbers or `Threshold`s by metric. Each of `checks` is called with the model and the table, and returns a `Check`, a
    list of them, a report, or whether it passed. `resamples` is the number of samples of the bootstrap. `max_bytes` limits
    the size of the model's artifact, which is `model_bytes`, and `max_latency` the seconds of a prediction of one row.
    Raises `ZenError` without scikit-learn.
    """
    _require_sklearn()
    from airflow_zen.validation.evaluation_metrics import metrics_of
    from airflow_zen.validation.evaluation_predictions import Unpredictable, features_of, predict

    title, limits = f"evaluation of {type(model).__name__}", as_thresholds(thresholds or {})
    try:
        ours = predict(model, table, target, task_type)
    except Unpredictable as error:
        rows = len(table) if hasattr(table, "columns") else None
        return EvaluationReport(title, error.checks, rows, task=task_type)
    measured = metrics_of(ours, metrics)
    unknown = sorted(set(limits) - {metric.name for metric in measured})
    if unknown:
        raise ValidationDefinitionError(f"thresholds= has {unknown[0]!r}, which is not measured. Add it to metrics=.")
    values, found = _measure(measured, ours)
    numbers = dict(values)
    found += _absolute_checks(measured, values, limits)
    if baseline is not None:
        compared, gains = _compare(measured, values, ours, baseline, table, target, limits, resamples)
        found, numbers = [*found, *compared], numbers | gains
    elif baseline_name:
        found.append(_no_baseline(baseline_name))
    if max_bytes is not None:
        found.append(check_size(model_bytes, max_bytes))
    if max_latency is not None:
        latency, seconds = check_latency(model, features_of(model, table, target), max_latency)
        found, numbers = [*found, latency], numbers | seconds
    found += [check for each in checks for check in _user_checks(each, model, table)]
    cut, uncut = _slices(measured, ours, table, slices)
    facts = {"target": target, "metrics": ", ".join(values)}
    facts |= {"bootstrap": f"{resamples} resamples, seed {_SEED}"} if baseline is not None else {}
    plots = _plots(model, table, target, ours, [metric for metric in measured if metric.name in values])
    return EvaluationReport(
        title,
        (*found, *uncut),
        len(table),
        statistics=facts,
        metrics=numbers,
        task=ours.task,
        slices=tuple(cut),
        plots=tuple(plots),
    )


def as_thresholds(given: Mapping[str, Any]) -> dict[str, Threshold]:
    """Return thresholds by metric, with a number as a limit; raise `ValidationDefinitionError` for anything else."""
    found = {}
    for name, value in given.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number or isinstance(value, Threshold)):
            raise ValidationDefinitionError(
                f"thresholds= takes numbers, or Threshold(limit=…, max_loss=…, min_gain=…), by metric; {name!r} has {value!r}."
            )
        found[name] = Threshold(value) if is_number else value
    return found


def _require_sklearn() -> None:
    try:
        import sklearn.metrics  # noqa: F401
    except ImportError as error:
        raise ZenError(
            f"evaluate computes metrics with scikit-learn, which cannot be imported: {error}. Install "
            "airflow-provider-zen[sklearn] where the step runs."
        ) from error


def _measure(metrics: Sequence[Metric], ours: Predictions) -> tuple[dict[str, float], list[Check]]:
    """Return the values of metrics, and a failed check for each that the predictions do not define."""
    values, failed = {}, []
    for metric in metrics:
        try:
            values[metric.name] = metric.value(ours)
        except Exception as error:  # noqa: BLE001 - a metric of a user, or of the library, raises anything
            cause = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            failed.append(Check(name="metric", column=metric.name, passed=False, observed="undefined", message=cause))
    return values, failed


def _absolute_checks(
    metrics: Sequence[Metric], values: Mapping[str, float], limits: Mapping[str, Threshold]
) -> Iterator[Check]:
    for metric in metrics:
        limit = limits.get(metric.name, Threshold()).limit
        if limit is None or metric.name not in values:
            continue
        value = values[metric.name]
        yield Check(
            name="threshold",
            column=metric.name,
            passed=value <= limit if metric.lower_is_better else value >= limit,
            observed=f"{value:.6g}",
            expected=f"at {'most' if metric.lower_is_better else 'least'} {limit:g}",
            value=value,
            threshold=limit,
        )


def _no_baseline(name: str) -> Check:
    message = f"There is no {name} yet, so that this model is compared with none."
    return Check(name="baseline", passed=True, observed="no baseline", message=message)


def _compare(
    metrics: Sequence[Metric],
    values: Mapping[str, float],
    ours: Predictions,
    baseline: Any,
    table: Any,
    target: str,
    limits: Mapping[str, Threshold],
    resamples: int,
) -> tuple[list[Check], dict[str, float]]:
    """Return a check for each metric against the baseline on the same rows, and the numbers of both."""
    import numpy as np

    from airflow_zen.validation.evaluation_metrics import paired_gains
    from airflow_zen.validation.evaluation_predictions import Unpredictable, predict

    try:
        theirs = predict(baseline, table, target, ours.task)
    except Unpredictable as error:
        message = "; ".join(f"{check.title}: {check.observed} {check.message}" for check in error.checks)
        return [Check(name="baseline", passed=False, observed="it cannot be evaluated", message=message)], {}
    theirs_values, failed = _measure([metric for metric in metrics if metric.name in values], theirs)
    compared = [metric for metric in metrics if metric.name in theirs_values]
    gains = paired_gains(compared, ours, theirs, resamples, _SEED)
    checks = [_of_baseline(check) for check in failed]
    numbers: dict[str, float] = {}
    for metric in compared:
        value, other = values[metric.name], theirs_values[metric.name]
        low, high = (float(each) for each in np.nanquantile(gains[metric.name], [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]))
        gain = float(metric.gain(value, other))
        numbers |= {f"baseline.{metric.name}": other, f"gain.{metric.name}": gain}
        numbers |= {f"gain.low.{metric.name}": low, f"gain.high.{metric.name}": high}
        limit = limits.get(metric.name, Threshold())
        checks += _gain_checks(metric.name, (gain, low, high), (value, other), limit, resamples)
    return checks, {name: number for name, number in numbers.items() if np.isfinite(number)}


def _of_baseline(check: Check) -> Check:
    from msgspec.structs import replace

    return replace(check, name="baseline_metric")


def _gain_checks(
    name: str, gain: tuple[float, float, float], values: tuple[float, float], limit: Threshold, resamples: int
) -> Iterator[Check]:
    found, low, high = gain
    observed = f"{values[0]:.6g}, baseline {values[1]:.6g}: gain {found:.4g} [{low:.4g}, {high:.4g}]"
    method = f"paired bootstrap, {resamples} resamples, {_LEVEL:.0%} interval"
    if limit.max_loss is not None:
        least = 0.0 - limit.max_loss
        expected = f"not worse than the baseline by more than {limit.max_loss:g}"
        yield Check(
            name="not_worse",
            column=name,
            passed=high >= least,
            observed=observed,
            expected=expected,
            method=method,
            value=high,
            threshold=least,
        )
    if limit.min_gain is not None:
        expected = f"better than the baseline by at least {limit.min_gain:g}"
        yield Check(
            name="better",
            column=name,
            passed=low >= limit.min_gain,
            observed=observed,
            expected=expected,
            method=method,
            value=low,
            threshold=limit.min_gain,
        )


def _user_checks(function: Any, model: Any, table: Any) -> list[Check]:
    """Return what a function of a user finds; what it raises, or returns besides, is a failed check."""
    name = str(getattr(function, "__name__", type(function).__name__))
    try:
        found = function(model, table)
    except Exception as error:  # noqa: BLE001 - a function of a user raises anything
        message = f"{type(error).__name__}: {error}"
        return [Check(name=name, passed=False, observed="an error", message=message)]
    if isinstance(found, ValidationReport):
        return list(found.checks)
    if type(found).__name__ in ("bool", "bool_"):
        return [Check(name=name, passed=bool(found))]
    checks = list(found) if isinstance(found, list | tuple) else [found]
    if checks and all(isinstance(each, Check) for each in checks):
        return checks
    message = f"It returned {type(found).__name__}. Return a Check, a list of them, a ValidationReport, or a bool."
    return [Check(name=name, passed=False, observed="no check", message=message)]


def _plots(model: Any, table: Any, target: str, ours: Predictions, metrics: Sequence[Metric]) -> list[Plot]:
    """Return the plots of the predictions, and the importance of features; what cannot be drawn is left out, and logged."""
    from airflow_zen.validation.evaluation_plots import importance_plot, plots_of
    from airflow_zen.validation.evaluation_predictions import features_of, predict

    def predictions_of(model: Any, features: Any, true: Any) -> Predictions:
        return predict(model, features.assign(**{target: true}), target, ours.task)

    found: list[Plot] = []
    try:
        found += plots_of(ours)
        if metrics:
            features = features_of(model, table, target)
            importance = importance_plot(model, features, table[target], metrics[0], predictions_of)
            found += [importance] if importance else []
    except Exception as error:  # noqa: BLE001 - a model raises anything for permuted features
        log.warning("Plots of the evaluation are missing: %s: %s", type(error).__name__, error)
    return found


def _slices(
    metrics: Sequence[Metric], ours: Predictions, table: Any, columns: Sequence[str]
) -> tuple[list[Slice], list[Check]]:
    """Return the metrics of each value of each column, the worst by the first metric first; and what cannot be cut."""
    found: list[Slice] = []
    failed = []
    for column in columns:
        if column not in table.columns:
            message = f"The table has {', '.join(map(str, table.columns))}."
            failed.append(Check(name="slices", column=column, passed=False, observed="missing", message=message))
            continue
        try:
            parts = [_slice(metrics, ours, column, value, rows) for value, rows in _values(table[column])]
            found += sorted(parts, key=lambda each: _badness(each, metrics))
        except Exception as error:  # noqa: BLE001 - lists and other nested values are no groups
            cause = f"{type(error).__name__}: {error}"
            failed.append(Check(name="slices", column=column, passed=False, observed="no slices", message=cause))
    return found, failed


def _slice(metrics: Sequence[Metric], ours: Predictions, column: str, value: str, rows: Any) -> Slice:
    values, _ = _measure(metrics, ours.take(rows))
    return Slice(column, value, len(rows), len(rows) < SMALL_SLICE, values)


def _badness(found: Slice, metrics: Sequence[Metric]) -> tuple[bool, float]:
    """Return a key that sorts the worst slice first; those without the first metric are last."""
    first = metrics[0]
    value = found.metrics.get(first.name)
    return (True, 0.0) if value is None else (False, -value if first.lower_is_better else value)


def _values(column: Any) -> Iterator[tuple[str, Any]]:
    """Yield the 200 most frequent values of a column, with their rows by position.

    A column of more than 20 numbers is cut into ranges of equal share.
    """
    import numpy as np
    import pandas as pd

    series = column.reset_index(drop=True)
    if series.dtype.kind in "iuf" and series.nunique() > _MAX_VALUES:
        series = pd.qcut(series, _RANGES, duplicates="drop")
    groups = series.groupby(series, dropna=False, observed=True).groups
    for value, rows in sorted(groups.items(), key=lambda group: -len(group[1]))[:_MAX_SLICES]:
        yield ("null" if pd.isna(value) else str(value)), np.asarray(rows)
