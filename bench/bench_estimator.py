"""Measure what a scikit-learn estimator costs to save and load, beside joblib, the two in turn.

The first estimator of a process is measured in fresh processes, beyond the modules of scikit-learn that it needs. The random
forest has 200 trees. Its peaks of memory are those of fresh processes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
from sklearn.ensemble import RandomForestClassifier

from airflow_zen.materializers.registry import default_registry
from bench.measure import Row, in_turn, main, ratio_row, row, run_python

ROWS = {
    "estimator_import_s": "the first estimator that a process saves and loads, beyond the modules of scikit-learn that it needs; CPU",
    "forest_save_vs_joblib": "a random forest of 200 trees saved, over joblib, which writes a pickle",
    "forest_load_vs_joblib": "the same loaded, over joblib",
    "forest_save_peak": "memory added at the peak of saving it, over the size of its file",
    "forest_load_peak": "memory added at the peak of loading it, over the size of its file",
}

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
print(times[0] - times[1])
"""


MEMORY = """
import pathlib, sys
import joblib, sklearn.ensemble
from airflow_zen.materializers.registry import default_registry

def memory(field):
    return int(pathlib.Path("/proc/self/status").read_text().partition(field + ":")[2].split()[0]) / 1024

what, place = sys.argv[1], pathlib.Path(sys.argv[2])
registry = default_registry()
registry.for_encoding("sklearn.mlflow@3")
model = joblib.load(place / "joblib") if "save" in what else None
calls = {
    "zen save": lambda: registry.save(model, place / "again"),
    "joblib save": lambda: joblib.dump(model, place / "again" / "joblib"),
    "zen load": lambda: registry.load(place / "zen", "sklearn.mlflow@3"),
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


def rows(rounds: int) -> Iterator[Row]:
    """Yield the rows."""
    yield row("estimator_import_s", [float(run_python(PROBE)[0][-1]) for _ in range(rounds)], "s")
    model, registry = forest(), default_registry()
    with tempfile.TemporaryDirectory() as directory:
        place, file = Path(directory, "zen"), Path(directory, "joblib")
        place.mkdir()
        saves = in_turn(lambda: registry.save(model, place), lambda: joblib.dump(model, file), rounds)
        yield ratio_row("forest_save_vs_joblib", saves)
        loads = in_turn(lambda: registry.load(place, "sklearn.mlflow@3"), lambda: joblib.load(file), rounds)
        yield ratio_row("forest_load_vs_joblib", loads)
        size = file.stat().st_size / 1024 / 1024
        for verb in ("save", "load"):
            added, _ = run_python(MEMORY, f"zen {verb}", directory)
            yield Row(f"forest_{verb}_peak", float(added[-1]) / size, "times")


if __name__ == "__main__":
    main(__doc__, rows, rounds=9)
