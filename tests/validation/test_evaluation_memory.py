"""The memory of an evaluation of a table that is larger than its sample."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression

from airflow_zen.validation.evaluation import evaluate_model

BATCH, BATCHES, COLUMNS = 25_000, 40, ["x0", "x1", "x2", "x3", "x4", "delay"]


def batches(count: int) -> Iterator[pd.DataFrame]:
    """Yield batches that exist one at a time, as those of a stored table."""
    generator = np.random.default_rng(0)
    for _ in range(count):
        yield pd.DataFrame(generator.normal(size=(BATCH, len(COLUMNS))), columns=COLUMNS)


def test_memory_depends_on_the_sample_and_not_on_the_table() -> None:
    """A table of 40 batches takes a small part of its own size, hardly more than one of 4; the report has all rows."""
    head = next(batches(1))
    model = LinearRegression().fit(head.drop(columns="delay"), head["delay"])
    # The libraries that it imports are no part of what it needs for a table.
    evaluate_model(model, batches(1), "delay", sample=1000)
    peaks = []
    for count in (4, BATCHES):
        tracemalloc.start()
        report = evaluate_model(model, batches(count), "delay", slices=["x0"], sample=BATCH)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (report.passed, report.rows, report.sampled) == (True, count * BATCH, BATCH)
        assert report.statistics["sample"] == f"{BATCH:,} of {count * BATCH:,} rows, drawn at random with seed 0"
    size = BATCH * BATCHES * len(COLUMNS) * 8
    assert peaks[1] < size / 2
    assert peaks[1] < 1.25 * peaks[0]
