"""The checks of an evaluation: of thresholds, against the baseline, of users, and of a model's size and latency."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import ValidationDefinitionError
from airflow_zen.validation.report import Check, ValidationReport

if TYPE_CHECKING:
    from airflow_zen.validation.evaluation_metrics import Metric

LEVEL = 0.95
"""The share of the resamples that an interval of the bootstrap holds."""

_PREDICTIONS = 50


@dataclass(frozen=True)
class Threshold:
    """What a metric must be.

    limit: the worst value that passes, the least or the greatest by the metric. max_loss: fails if the model is worse
    than the baseline by more than this in all of the bootstrap interval; None does not compare it. min_gain: fails
    unless the model is better than the baseline by at least this in all of the interval; None asks for no gain.
    """

    limit: float | None = None
    max_loss: float | None = 0.0
    min_gain: float | None = None


def as_thresholds(given: Mapping[str, Any]) -> dict[str, Threshold]:
    """Return thresholds by metric, with a number as a limit; raise `ValidationDefinitionError` for anything else."""
    found = {}
    for name, value in given.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number or isinstance(value, Threshold)):
            raise ValidationDefinitionError(
                "thresholds= takes numbers, or Threshold(limit=…, max_loss=…, min_gain=…), by metric; "
                f"{name!r} has {value!r}."
            )
        found[name] = Threshold(value) if is_number else value
    return found


def threshold_checks(
    metrics: Sequence[Metric], values: Mapping[str, float], limits: Mapping[str, Threshold]
) -> Iterator[Check]:
    """Yield the check of each metric that has a limit."""
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


def gain_checks(
    name: str, gain: tuple[float, float, float], values: tuple[float, float], limit: Threshold, resamples: int
) -> Iterator[Check]:
    """Yield the checks of a metric against the baseline; `gain` has its interval, `values` are those of both models."""
    found, low, high = gain
    observed = f"{values[0]:.6g}, baseline {values[1]:.6g}: gain {found:.4g} [{low:.4g}, {high:.4g}]"
    method = f"paired bootstrap, {resamples} resamples, {LEVEL:.0%} interval"
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


def missing_baseline(name: str) -> Check:
    """Return the check of a baseline that does not exist yet, which passes."""
    message = f"There is no {name} yet, so that this model is compared with none."
    return Check(name="baseline", passed=True, observed="no baseline", message=message)


def user_checks(function: Any, model: Any, table: Any) -> list[Check]:
    """Return the checks of a user's function; an exception, or a result that is no check, is a failed check."""
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


def check_size(size: int | None, limit: int) -> Check:
    """Return whether the files of a model have at most this size in bytes; None is the size of no artifact."""
    return Check(
        name="size",
        passed=size is not None and size <= limit,
        observed="unknown" if size is None else f"{size:,} bytes",
        expected=f"at most {limit:,} bytes",
        message="The model is no artifact." if size is None else "",
        value=size,
        threshold=limit,
    )


def check_latency(model: Any, features: Any, limit: float) -> tuple[Check, dict[str, float]]:
    """Return whether 95% of 50 predictions of one row take at most this time in seconds, and the quantiles measured.

    The rows are spread over the table, and one prediction before them is not measured.
    """
    import numpy as np

    rows = np.linspace(0, len(features) - 1, _PREDICTIONS + 1).round().astype(int)
    seconds = [_seconds(model, features.iloc[[row]]) for row in rows][1:]
    half, most = (float(value) for value in np.quantile(seconds, [0.5, 0.95]))
    check = Check(
        name="latency",
        passed=most <= limit,
        observed=f"{most:.4g} s",
        expected=f"at most {limit:g} s",
        method=f"95% quantile of {_PREDICTIONS} predictions of one row",
        value=most,
        threshold=limit,
    )
    return check, {"latency.p50": half, "latency.p95": most}


def _seconds(model: Any, row: Any) -> float:
    start = time.perf_counter()
    model.predict(row)
    return time.perf_counter() - start
