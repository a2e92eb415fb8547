"""Measure what a scikit-learn estimator costs to save and load, beside joblib, the two in turn.

Prints the CPU time that the first estimator of a fresh process costs beyond the modules of scikit-learn that it needs, and
for a random forest of 200 trees the CPU time of saving and of loading, and in fresh processes the peak of memory.
Rounds: 7 (`--rounds`).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.ensemble import RandomForestClassifier

from airflow_zen.materializers.registry import default_registry

PROBE = """
import pathlib, sys, tempfile, time
import numpy, pandas, sklearn.linear_model
from airflow_zen.materializers.registry import default_registry
model = sklearn.linear_model.Ridge().fit([[1.0], [2.0]], [1.0, 2.0])
registry = default_registry()
with tempfile.TemporaryDirectory() as directory:
    times = []
    for name in ("first", "second"):
        place = pathlib.Path(directory, name)
        place.mkdir()
        start = time.process_time()
        registry.load(place, registry.save(model, place).encoding)
        times.append(time.process_time() - start)
print(times[0], times[0] - times[1])
"""


MEMORY = """
import pathlib, sys
import joblib, sklearn.ensemble
from airflow_zen.materializers.registry import default_registry

def memory(field):
    return int(pathlib.Path("/proc/self/status").read_text().partition(field + ":")[2].split()[0]) / 1024

what, place = sys.argv[1], pathlib.Path(sys.argv[2])
registry = default_registry()
registry.for_encoding("sklearn.mlflow@2")
model = joblib.load(place / "joblib") if "save" in what else None
calls = {
    "zen save": lambda: registry.save(model, place / "again"),
    "joblib save": lambda: joblib.dump(model, place / "again" / "joblib"),
    "zen load": lambda: registry.load(place / "zen", "sklearn.mlflow@2"),
    "joblib load": lambda: joblib.load(place / "joblib"),
}
(place / "again").mkdir(exist_ok=True)
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
kept = calls[what]()
print(memory("VmHWM") - before)
"""


def forest() -> RandomForestClassifier:
    """Return a forest of about 30 MB."""
    rng = np.random.default_rng(0)
    x = rng.random((20_000, 10))
    y = x[:, 0] + x[:, 1] * x[:, 2] + rng.random(20_000) * 0.3 > 0.8
    return RandomForestClassifier(200, random_state=0, min_samples_leaf=2, n_jobs=2).fit(x, y)


def cpu(function: Callable[[], Any]) -> float:
    """Return the seconds of CPU of a call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def main() -> None:
    """Measure, and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=7)
    rounds = options.parse_args().rounds
    probed = [_probe() for _ in range(rounds)]
    for name, times in zip(("first estimator", "beyond the second"), zip(*probed, strict=True), strict=True):
        print(f"{name:24} {statistics.median(times):7.3f} s of CPU   (median of {rounds}, up to {max(times):.3f})")
    model, registry = forest(), default_registry()
    with tempfile.TemporaryDirectory() as directory:
        measured = [_measure(model, registry, Path(directory, str(at))) for at in range(rounds + 1)][1:]
        size = Path(directory, "0", "joblib").stat().st_size / 1e6
        memory = {what: float(_run(MEMORY, what, str(Path(directory, "0")))[-1]) for what in measured[0]}
    print(f"forest of {size:.0f} MB")
    for name in ("save", "load"):
        pairs = [(each[f"zen {name}"], each[f"joblib {name}"]) for each in measured]
        ratios = [one / other for one, other in pairs]
        ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
        print(
            f"{name:24} {ours:7.3f} s of CPU, joblib {theirs:.3f} s: {statistics.median(ratios):.2f} times "
            f"({min(ratios):.2f} to {max(ratios):.2f}); peak + {memory[f'zen {name}']:.0f} MB, "
            f"joblib + {memory[f'joblib {name}']:.0f} MB"
        )


def _measure(model: Any, registry: Any, directory: Path) -> dict[str, float]:
    place, file = directory / "zen", directory / "joblib"
    place.mkdir(parents=True)
    return {
        "zen save": cpu(lambda: registry.save(model, place)),
        "joblib save": cpu(lambda: joblib.dump(model, file)),
        "zen load": cpu(lambda: registry.load(place, "sklearn.mlflow@2")),
        "joblib load": cpu(lambda: joblib.load(file)),
    }


def _probe() -> tuple[float, float]:
    first, beyond = _run(PROBE)[-2:]
    return float(first), float(beyond)


def _run(program: str, *arguments: str) -> list[str]:
    """Run a program in a fresh interpreter, and return the words it prints."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


if __name__ == "__main__":
    main()
