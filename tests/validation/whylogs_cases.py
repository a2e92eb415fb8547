"""What the tests of `Whylogs` run where whylogs is installed; each returns JSON."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import whylogs
from pyarrow import Table, dataset
from whylogs.core import DatasetProfile, DatasetProfileView
from whylogs.core.constraints import ConstraintsBuilder, factories
from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

from airflow_zen.materializers.registry import default_registry
from airflow_zen.validation.report import ValidationReport
from airflow_zen.validation.validators import run_validator
from airflow_zen.validation.whylogs import PROFILE, Whylogs, WhylogsProfiles, constraint, profile_table
from tests.validation.flights import BROKEN, month

COLUMNS = ("dep_delay", "carrier", "distance")
CONSTRAINTS = (
    constraint("smaller_than_number", "dep_delay", number=600),
    constraint("is_in_range", "distance", lower=0, upper=5000),
    constraint("no_missing_values", "dep_delay", severity="warning"),
    constraint("mean_between_range", "dep_delay", lower=0, upper=20),
)


def _as_json(report: ValidationReport) -> dict[str, Any]:
    checks = [
        {
            name: getattr(check, name)
            for name in ("title", "passed", "severity", "method", "value", "threshold", "message")
        }
        for check in report.checks
    ]
    return {
        "checks": checks,
        "metrics": dict(report.metrics),
        "rows": report.rows,
        "statistics": dict(report.statistics),
    }


def by_hand() -> dict[str, Any]:
    """Check constraints, with the validator and with whylogs by hand."""
    view, old = (whylogs.log(pandas=month(number).head(8000)[list(COLUMNS)]).view() for number in (7, 1))
    builder = ConstraintsBuilder(dataset_profile_view=view)
    for each in CONSTRAINTS:
        builder.add_constraint(getattr(factories, each.name)(**each.options))
    verdicts = {found.name: bool(found.passed) for found in builder.build().generate_constraints_report()}
    scores = calculate_drift_scores(target_view=view, reference_view=old, with_thresholds=True)
    report = run_validator(Whylogs(CONSTRAINTS, only=COLUMNS), month(7).head(8000), month(1).head(8000))
    expected = [verdicts[check.expected] for check in report.checks if check.expected in verdicts]
    drift = {name: [found["statistic"], found["drift_category"] == "DRIFT"] for name, found in scores.items()}
    mean = float(month(7).head(8000)["dep_delay"].mean())
    return {**_as_json(report), "expected": expected, "drift": drift, "mean": mean}


def merged() -> dict[str, Any]:
    """Profile parts one by one, and merge the profiles of their reports; compare with a profile of a month before."""
    frame, suite = month(7).head(6000), Whylogs(CONSTRAINTS, only=COLUMNS)
    parts = [run_validator(suite, frame.iloc[start::3]) for start in range(3)]
    before = profile_table(dataset.dataset(Table.from_pandas(month(1).head(6000))), COLUMNS)
    whole, together = run_validator(suite, frame), run_validator(WhylogsProfiles(CONSTRAINTS), parts, before)
    view = DatasetProfileView.deserialize(together.files[PROFILE])
    count = view.get_column("dep_delay").get_metric("counts").n.value
    wrong = run_validator(WhylogsProfiles(CONSTRAINTS), [frame])
    return {
        "parts": [_as_json(part) for part in parts],
        "whole": _as_json(whole),
        "together": _as_json(together),
        "n": count,
        "wrong": _as_json(wrong),
    }


def stored() -> dict[str, Any]:
    """Store a profile, read it again, and make its page."""
    view, registry = profile_table(dataset.dataset(Table.from_pandas(month(1).head(500)))), default_registry()
    with TemporaryDirectory() as folder:
        saved = registry.save(view, Path(folder))
        loaded = registry.load(Path(folder), saved.encoding)
        page = registry.preview(view, saved.encoding, saved.summary)["preview.html"]
    pinned = registry.load(
        Path(__file__).parents[1] / "materializers/encodings/whylogs.profile@1/numbers", saved.encoding
    )
    return {
        "encoding": saved.encoding,
        "shape": saved.summary["shape"],
        "means": [_means(view), _means(loaded)],
        "page": page,
        "pinned": _means(pinned),
    }


def _means(view: Any) -> dict[str, float]:
    found: dict[str, float] = view.to_pandas()["distribution/mean"].dropna().to_dict()
    return found


def broken() -> dict[str, Any]:
    """Check each broken table against a good one, and a good table against each broken one."""
    suite = Whylogs(
        (*CONSTRAINTS, constraint("is_non_negative", "gone"), constraint("nonsense", "carrier")), only=COLUMNS
    )
    good = month(1).head(1000)
    return {
        name: [_as_json(run_validator(suite, *pair)) for pair in ((change(good), good), (good, change(good)))]
        for name, change in BROKEN.items()
    }


def every_case() -> dict[str, Any]:
    """Return the results of all cases: one process imports whylogs once."""
    return {case.__name__: case() for case in (by_hand, merged, stored, broken, streamed)}


def streamed() -> dict[str, Any]:
    """Profile a file batch by batch; return the largest batch and the report."""
    sizes: list[int] = []
    track = DatasetProfile.track

    def recorded(self: Any, frame: pd.DataFrame, *args: Any, **options: Any) -> Any:
        sizes.append(len(frame))
        return track(self, frame, *args, **options)

    DatasetProfile.track = recorded
    with TemporaryDirectory() as folder:
        frames = pd.DataFrame({"distance": range(70_000), "other": "a"})
        pq.write_table(Table.from_pandas(frames), f"{folder}/t.parquet")
        suite = Whylogs(constraint("is_in_range", "distance", lower=0, upper=70_000), only=("distance",))
        report = run_validator(suite, dataset.dataset(f"{folder}/t.parquet"))
    DatasetProfile.track = track
    return {"sizes": sizes, "rows": report.rows, "passed": report.passed, "expected": len(frames)}
