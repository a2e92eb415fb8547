"""Numbers as MLflow takes them."""

from __future__ import annotations

import math
from typing import Any


def milliseconds(seconds: float) -> int:
    """Give MLflow's unit of time."""
    return round(seconds * 1000)


def metric(key: str, value: float, timestamp: int) -> dict[str, Any]:
    """Write one metric; JSON has no number for NaN and the infinities, so they travel as text."""
    written: float | str = value
    if not math.isfinite(value):
        written = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return {"key": key, "value": written, "timestamp": timestamp, "step": 0}
