"""The evaluation of a model on a table: metrics, thresholds, a baseline on the same rows, and slices."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from msgspec import structs

from airflow_zen.errors import ValidationDefinitionError, ZenError
from airflow_zen.validation.evaluation_checks import (
    LEVEL,
    Threshold,
    as_thresholds,
    check_latency,
    check_size,
    gain_checks,
    missing_baseline,
    threshold_checks,
    user_checks,
)
from airflow_zen.validation.evaluation_report import EvaluationReport, Plot, Slice
from airflow_zen.validation.report import Check, describe_sample

if TYPE_CHECKING:
    import pandas as pd

    from airflow_zen.validation.evaluation_metrics import Metric, Predictions

log = logging.getLogger("airflow_zen.validation")

SAMPLE, RESAMPLES, SMALL_SLICE = 1_000_000, 1000, 30
"""The rows that are evaluated of a larger table, the resamples of the bootstrap, and the rows of a small slice."""

# In the statistics of a report: of what it is, for the gate that reads it.
MODEL_DIGEST, BASELINE_DIGEST = "model_digest", "baseline_digest"

_SEED = 0
_MAX_VALUES, _MAX_SLICES, _RANGES = 20, 200, 4


def evaluate_model(
    model: Any,
    table: Iterator[pd.DataFrame],
    target: str,
    metrics: Sequence[Any] | None = None,
    slices: Sequence[str] = (),
    baseline: Any = None,
    baseline_name: str = "",
    thresholds: Mapping[str, Any] | None = None,
    checks: Sequence[Any] = (),
    task_type: str = "",
    groups: str = "",
    sample: int = SAMPLE,
    resamples: int = RESAMPLES,
    max_bytes: int | None = None,
    model_bytes: int | None = None,
    max_latency: float | None = None,
    digests: Mapping[str, str] | None = None,
) -> EvaluationReport:
    """Return the report of a model on a table; what cannot be evaluated is a failed check.

    `table` is a frame of pandas, or an iterator of its parts, of which `sample` random rows are evaluated if it has
    more; 0 for all rows. `groups` is the column of a ranking whose values are ranked apart. `baseline` is another
    model, or None; `baseline_name` is the version that was asked for, which may not exist yet. `thresholds` are numbers
    or `Threshold`s by metric. Each of `checks` is called with the model and the table, and returns a `Check`, a list of
    them, a report, or whether it passed. `resamples` is the number of samples of the bootstrap. `max_bytes` limits the
    size of the model's artifact, which is `model_bytes`, and `max_latency` the seconds of a prediction of one row.
    `digests` are those of model and baseline, which the statistics repeat. Raises `ZenError` without scikit-learn.
    """
    _require_sklearn()
    from airflow_zen.validation.evaluation_metrics import metrics_of
    from airflow_zen.validation.evaluation_predictions import Unpredictable, features_of, predict, sampled_frame

    title, limits = f"evaluation of {type(model).__name__}", as_thresholds(thresholds or {})
    frame, rows = sampled_frame(table, sample)
    sampled = len(frame) if rows is not None and len(frame) < rows else None
    try:
        ours = predict(model, frame, target, task_type, groups)
    except Unpredictable as error:
        facts = describe_sample(sampled, rows)
        return EvaluationReport(title, error.checks, rows, sampled, statistics=facts, task=task_type)
    measured = metrics_of(ours, metrics)
    unknown = sorted(set(limits) - {metric.name for metric in measured})
    if unknown:
        raise ValidationDefinitionError(f"thresholds= has {unknown[0]!r}, which is not measured. Add it to metrics=.")
    values, found = _measure(measured, ours)
    numbers = dict(values)
    found += threshold_checks(measured, values, limits)
    if baseline is not None:
        compared, gains = _compare(measured, values, ours, baseline, frame, target, limits, resamples)
        found, numbers = [*found, *compared], numbers | gains
    elif baseline_name:
        found.append(missing_baseline(baseline_name))
    if max_bytes is not None:
        found.append(check_size(model_bytes, max_bytes))
    if max_latency is not None:
        latency, seconds = check_latency(model, features_of(model, frame, target), max_latency)
        found, numbers = [*found, latency], numbers | seconds
    found += [check for each in checks for check in user_checks(each, model, frame)]
    cut, uncut = _slices(measured, ours, frame, slices)
    facts = {**describe_sample(sampled, rows), "target": target, "metrics": ", ".join(values)}
    facts |= {"groups": groups} if groups else {}
    facts |= digests or {}
    facts |= {"bootstrap": f"{resamples} resamples, seed {_SEED}"} if baseline is not None else {}
    plots = _plots(model, frame, target, ours, [metric for metric in measured if metric.name in values])
    return EvaluationReport(
        title,
        (*found, *uncut),
        rows,
        sampled,
        statistics=facts,
        metrics=numbers,
        task=ours.task,
        slices=tuple(cut),
        plots=tuple(plots),
    )


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
        theirs = replace(predict(baseline, table, target, ours.task), groups=ours.groups)
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
        low, high = (float(each) for each in np.nanquantile(gains[metric.name], [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
        gain = float(metric.gain(value, other))
        numbers |= {f"baseline.{metric.name}": other, f"gain.{metric.name}": gain}
        numbers |= {f"gain.low.{metric.name}": low, f"gain.high.{metric.name}": high}
        limit = limits.get(metric.name, Threshold())
        checks += gain_checks(metric.name, (gain, low, high), (value, other), limit, resamples)
    return checks, {name: number for name, number in numbers.items() if np.isfinite(number)}


def _of_baseline(check: Check) -> Check:
    return structs.replace(check, name="baseline_metric")


def _plots(model: Any, table: Any, target: str, ours: Predictions, metrics: Sequence[Metric]) -> list[Plot]:
    """Return the plots of the predictions, and the importance of features; log what cannot be drawn."""
    from airflow_zen.validation.evaluation_plots import permutation_importance, plots_of, shap_importance
    from airflow_zen.validation.evaluation_predictions import features_of, predict

    def predictions_of(features: Any, rows: Any) -> Predictions:
        part = ours.take(rows)
        true = table[target].iloc[rows].set_axis(features.index)
        found = predict(model, features.assign(**{target: true}), target, ours.task)
        return replace(found, groups=part.groups)

    found: list[Plot] = []
    try:
        found += plots_of(ours)
        features = features_of(model, table, target)
        found += permutation_importance(features, metrics[0], predictions_of) if metrics else []
        found += shap_importance(model, features)
    except Exception as error:  # noqa: BLE001 - a model raises anything for permuted features
        log.warning("Plots of the evaluation are missing: %s: %s", type(error).__name__, error)
    return found


def _slices(
    metrics: Sequence[Metric], ours: Predictions, table: Any, columns: Sequence[str]
) -> tuple[list[Slice], list[Check]]:
    """Return the metrics of each value of each column, the worst first, and a check for a column that cannot be cut."""
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
