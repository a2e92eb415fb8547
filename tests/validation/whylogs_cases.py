"""What the tests of `Whylogs` run where whylogs is installed; each returns JSON."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from pyarrow import Table, dataset

from airflow_zen.validation.report import ValidationReport
from airflow_zen.validation.run import run_validator
from airflow_zen.validation.whylogs import PROFILE, Whylogs, WhylogsReports, constraint
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
    import whylogs
    from whylogs.core.constraints import ConstraintsBuilder, factories
    from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

    view, old = (whylogs.log(pandas=month(number)[list(COLUMNS)]).view() for number in (7, 1))
    builder = ConstraintsBuilder(dataset_profile_view=view)
    for each in CONSTRAINTS:
        builder.add_constraint(getattr(factories, each.name)(**each.options))
    verdicts = {found.name: bool(found.passed) for found in builder.build().generate_constraints_report()}
    scores = calculate_drift_scores(target_view=view, reference_view=old, with_thresholds=True)
    report = run_validator(Whylogs(CONSTRAINTS, only=COLUMNS), month(7), month(1))
    expected = [verdicts[check.expected] for check in report.checks if check.expected in verdicts]
    drift = {name: [found["statistic"], found["drift_category"] == "DRIFT"] for name, found in scores.items()}
    mean = float(month(7)["dep_delay"].mean())
    return {**_as_json(report), "expected": expected, "drift": drift, "mean": mean}


def merged() -> dict[str, Any]:
    """Profile parts one by one, and merge the profiles of their reports; compare with a profile of a month before."""
    from whylogs.core import DatasetProfileView

    frame, suite = month(7), Whylogs(CONSTRAINTS, only=COLUMNS)
    parts = [run_validator(suite, frame.iloc[start::3]) for start in range(3)]
    whole, together = (
        run_validator(suite, frame),
        run_validator(WhylogsReports(CONSTRAINTS), parts, run_validator(suite, month(1))),
    )
    view = DatasetProfileView.deserialize(together.files[PROFILE])
    count = view.get_column("dep_delay").get_metric("counts").n.value
    return {
        "parts": [_as_json(part) for part in parts],
        "whole": _as_json(whole),
        "together": _as_json(together),
        "n": count,
    }


def broken() -> dict[str, Any]:
    """Check each broken table, alone and against a good one."""
    suite = Whylogs(
        (*CONSTRAINTS, constraint("is_non_negative", "gone"), constraint("nonsense", "carrier")), only=COLUMNS
    )
    return {name: _as_json(run_validator(suite, change(month(1)), month(2))) for name, change in BROKEN.items()}


def streamed() -> dict[str, Any]:
    """Profile a file batch by batch; return the largest batch and the report."""
    import tempfile

    from whylogs.core import DatasetProfile

    sizes: list[int] = []
    track = DatasetProfile.track

    def recorded(self: Any, frame: pd.DataFrame, *args: Any, **options: Any) -> Any:
        sizes.append(len(frame))
        return track(self, frame, *args, **options)

    DatasetProfile.track = recorded
    with tempfile.TemporaryDirectory() as folder:
        frames = pd.concat([month(number) for number in range(1, 7)])
        pq.write_table(Table.from_pandas(frames), f"{folder}/t.parquet")
        report = run_validator(Whylogs(CONSTRAINTS[1], only=("distance",)), dataset.dataset(f"{folder}/t.parquet"))
    return {"sizes": sizes, "rows": report.rows, "passed": report.passed, "expected": len(frames)}
