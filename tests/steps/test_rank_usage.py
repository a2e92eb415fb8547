"""Promises of what a rank measures of itself."""

import sys
import time

import pytest

from airflow_zen.steps import rank_usage
from airflow_zen.steps.rank_usage import RankMeter


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the memory of a process")
def test_curves_and_totals(monkeypatch):
    """A rank has curves with the time of each sample, and totals; a long run is sampled more seldom, and never too often."""
    monkeypatch.setattr(rank_usage, "_FIRST_SECONDS", 0.001)
    before = time.time()
    meter = RankMeter(1).start()
    while time.time() - before < 0.5 or len(meter.curves.get("system/rank_1/memory_megabytes", ())) < 10:
        time.sleep(0.01)
    meter.stop()
    curve = meter.curves["system/rank_1/memory_megabytes"]
    assert 10 <= len(curve) <= 61
    times = [at for at, _ in curve]
    assert times == sorted(times)
    assert before - 1 < times[0] / 1000 <= times[-1] / 1000 < time.time() + 1
    assert curve[-1][1] > 10
    assert set(meter.curves) == {"system/rank_1/memory_megabytes", "system/rank_1/cpu_percentage"}
    assert meter.totals["system/rank_1/peak_memory_megabytes"] >= curve[-1][1] - 1
    assert meter.totals["system/rank_1/cpu_seconds"] > 0
