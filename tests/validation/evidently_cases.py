"""What the tests of `Evidently` run where Evidently is installed; each returns JSON."""

from __future__ import annotations

import json
import warnings
from typing import Any

from evidently import Dataset, Report
from evidently.presets import DataDriftPreset as Preset
from sklearn.metrics import roc_auc_score

from airflow_zen.validation.evidently import (
    PAGE,
    ClassificationPreset,
    DataDriftPreset,
    DataSummaryPreset,
    Evidently,
    RegressionPreset,
    TargetDrift,
    condition,
    metric,
)
from airflow_zen.validation.report import ValidationReport
from airflow_zen.validation.validators import run_validator
from tests.validation.flights import BROKEN, month

COLUMNS = ("dep_delay", "arr_delay", "carrier", "origin", "distance")


def _as_json(report: ValidationReport) -> dict[str, Any]:
    checks = [
        {
            name: getattr(check, name)
            for name in (
                "title",
                "passed",
                "severity",
                "method",
                "value",
                "threshold",
                "observed",
                "expected",
                "message",
            )
        }
        for check in report.checks
    ]
    return {"title": report.validator, "checks": checks, "metrics": dict(report.metrics), "files": list(report.files)}


def drift() -> dict[str, Any]:
    """Compare two months, with the validator and with Evidently by hand."""
    report = run_validator(Evidently(DataDriftPreset(), only=COLUMNS), month(7).head(8000), month(1).head(8000))
    datasets = [Dataset.from_pandas(month(number).head(8000)[list(COLUMNS)]) for number in (7, 1)]
    result = json.loads(Report([Preset()], include_tests=True).run(*datasets).json())
    values = {each["config"].get("column", ""): each["value"] for each in result["metrics"]}
    tests = {each["metric_config"]["params"].get("column", ""): each["status"] == "SUCCESS" for each in result["tests"]}
    page = report.files[PAGE].decode()
    return {**_as_json(report), "values": values, "tests": tests, "page": [len(page), page.lstrip()[:9].lower()]}


def broken() -> dict[str, Any]:
    """Check each broken table against a good one, and a good table against each broken one."""
    suite = Evidently(
        [
            DataDriftPreset(),
            metric("MeanValue", column="gone", tests=[condition("lte", 3)]),
            metric("Nonsense", column="origin"),
        ],
        only=COLUMNS,
    )
    good = month(1).head(1000)
    return {
        name: [_as_json(run_validator(suite, *pair)) for pair in ((change(good), good), (good, change(good)))]
        for name, change in BROKEN.items()
    }


def presets() -> dict[str, Any]:
    """Check a summary, the drift of a target, a metric that warns, and predictions."""
    frame = month(1).head(4000).dropna().reset_index(drop=True)
    frame = frame.assign(predicted=frame["dep_delay"], late=(frame["arr_delay"] > 15).astype(int))
    frame["probability"] = (frame["dep_delay"].clip(-50, 50) + 50) / 100
    roles = {"target": "arr_delay", "prediction": "predicted", "task": "regression"}
    classes = {"target": "late", "prediction": "probability", "task": "binary", "is_probability": True}
    mae = float((frame["arr_delay"] - frame["predicted"]).abs().mean())
    quality = Evidently([RegressionPreset(), metric("MAE", mean_tests=[condition("lte", mae - 1)])], **roles)
    nulls = metric("MissingValueCount", column="dep_delay", tests=[condition("lte", 0, is_critical=False)])
    return {
        "summary": _as_json(
            run_validator(Evidently(DataSummaryPreset(columns=list(COLUMNS))), month(2).head(4000), month(1).head(4000))
        ),
        "target": _as_json(
            run_validator(
                Evidently(TargetDrift(method="ks"), target="dep_delay"), month(7).head(4000), month(1).head(4000)
            )
        ),
        "nulls": _as_json(run_validator(Evidently(nulls), month(1))),
        "regression": _as_json(run_validator(quality, frame)),
        "classification": _as_json(
            run_validator(Evidently([ClassificationPreset(rocauc_tests=[condition("gte", 0.99)])], **classes), frame)
        ),
        "mae": mae,
        "auc": float(roc_auc_score(frame["late"], frame["probability"])),
    }


def every_case() -> dict[str, Any]:
    """Return the results of all cases: one process imports Evidently once."""
    warnings.simplefilter("ignore")
    return {case.__name__: case() for case in (drift, broken, presets)}
