"""The limits of a model's size and of the time that it takes to predict one row."""

from __future__ import annotations

import time
from typing import Any

from airflow_zen.validation.report import Check

_PREDICTIONS = 50


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
