"""What each of the processes uses that run one step together: totals, and curves over time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from airflow_zen.runs.step_run import RANK_SAMPLES
from airflow_zen.steps.resources import cuda_in_use

_FIRST_SECONDS = 1.0
_MAX_SAMPLES = 60
_STATUS = Path("/proc/self/status")


@contextmanager
def measure_rank(rank: int, keep: Callable[[Mapping[str, Mapping[str, Any]]], None]) -> Iterator[None]:
    """Measure what this process uses in the block; `keep` is called with metadata by subject, also after an error."""
    meter = RankMeter(rank).start()
    try:
        yield
    finally:
        meter.stop()
        keep({"": meter.totals, RANK_SAMPLES: meter.curves})


class RankMeter:
    """Sample what this process uses, from `start` to `stop`: every second at first, more seldom in a long run."""

    def __init__(self, rank: int) -> None:
        self._prefix = f"system/rank_{rank}/"
        self._is_over = Event()
        self._samples: list[tuple[int, dict[str, float]]] = []
        self._last = time.monotonic(), _cpu_seconds()
        self._thread = Thread(target=self._run, name="airflow-zen-rank", daemon=True)

    def start(self) -> RankMeter:
        """Begin to sample."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Take the last sample."""
        self._is_over.set()
        self._thread.join()
        self._sample()

    @property
    def totals(self) -> dict[str, float]:
        """What this process has used in its life, by metric: processor time in seconds, and peaks of memory."""
        found = {"cpu_seconds": round(_cpu_seconds(), 2), **_memory("VmHWM", "peak_memory_megabytes")}
        if cuda := cuda_in_use():
            found["gpu_peak_memory_megabytes"] = round(cuda.max_memory_allocated() / 2**20, 1)
        return {f"{self._prefix}{name}": value for name, value in found.items()}

    @property
    def curves(self) -> dict[str, list[list[float]]]:
        """The samples by metric, each with its time in milliseconds since 1970."""
        names = {name: None for _, sample in self._samples for name in sample}
        return {
            f"{self._prefix}{name}": [[at, sample[name]] for at, sample in self._samples if name in sample]
            for name in names
        }

    def _run(self) -> None:
        seconds = _FIRST_SECONDS
        while not self._is_over.wait(seconds):
            self._sample()
            if len(self._samples) == _MAX_SAMPLES:
                self._samples = self._samples[1::2]
                seconds *= 2

    def _sample(self) -> None:
        now, used = time.monotonic(), _cpu_seconds()
        share = (used - self._last[1]) / max(now - self._last[0], 1e-3)
        self._last = now, used
        found = {"cpu_percentage": round(100 * share, 1), **_memory("VmRSS", "memory_megabytes")}
        if cuda := cuda_in_use():
            found["gpu_memory_megabytes"] = round(cuda.memory_allocated() / 2**20, 1)
        self._samples.append((time.time_ns() // 1_000_000, found))


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


def _memory(field: str, name: str) -> dict[str, float]:
    """Return a field of Linux's status of this process in megabytes; nothing where there is none."""
    if not _STATUS.exists():
        return {}
    after = _STATUS.read_text().partition(f"\n{field}:")[2].split()
    return {name: round(int(after[0]) / 1024, 1)} if after else {}
