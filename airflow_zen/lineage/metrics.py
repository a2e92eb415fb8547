"""Numbers as MLflow takes them."""

from __future__ import annotations

import math
from typing import Any


def to_milliseconds(seconds: float) -> int:
    """Give MLflow's unit of time."""
    return round(seconds * 1000)


def metric_entry(key: str, value: float, timestamp: int) -> dict[str, Any]:
    """Write one metric; JSON has no number for NaN and the infinities, so they travel as text."""
    encoded: float | str = value
    if not math.isfinite(value):
        encoded = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return {"key": key, "value": encoded, "timestamp": timestamp, "step": 0}
