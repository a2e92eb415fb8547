"""Promises of stored reports: exact, deterministic, with a page that needs nothing from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_zen.errors import ArtifactCorrupt, SaveRefused
from airflow_zen.materializers.registry import default_registry
from airflow_zen.validation.report import Check, FailingRow, ValidationReport
from airflow_zen.validation.report_materializer import report_page
from tests.materializers.page_reading import HOSTILE, read_preview_page
from tests.materializers.round_trip import assert_round_trip

FAILED = Check(
    name="in_range",
    column="dep_delay",
    passed=False,
    observed="up to 1301",
    expected="at most 600",
    failing=44,
    sample=(FailingRow("8", "853.0"),),
)
DRIFT = Check(name="drift", column="distance", passed=True, method="Wasserstein", value=0.05, threshold=0.1)
REPORT = ValidationReport(
    "example 1.0",
    [DRIFT, FAILED, Check(name="not_null", column="tailnum", passed=False, severity="warning", failing=2512)],
    rows=336_776,
    sampled=100_000,
    statistics={"columns": 19, "text": "ä"},
    metrics={"drift.share": 0.25},
    files={"page.html": b"<p>of the library</p>", "profile.bin": bytes(range(256))},
)


def test_report_comes_back_exactly(tmp_path: Path) -> None:
    """A report with the files of its library is loaded as it was saved, and saved as the same bytes."""
    assert_round_trip(lambda _: REPORT, tmp_path)


def test_summary_tells_the_verdict(tmp_path: Path) -> None:
    """The summary has the verdict, the metrics for MLflow, and the failed checks in the order of their severity."""
    summary = default_registry().save(REPORT, tmp_path).summary
    assert summary["shape"] == "failed, 1 of 3 checks"
    found = summary["validation"]
    assert found["passed"] is False
    assert found["facts"] == {
        "validation.checks": 3,
        "validation.failed": 1,
        "validation.warnings": 1,
        "validation.rows": 336_776,
        "validation.sampled": 100_000,
        "drift.share": 0.25,
    }
    assert found["failures"] == [
        ["in_range", "dep_delay", "error", "up to 1301", "at most 600", "44"],
        ["not_null", "tailnum", "warning", "", "", "2512"],
    ]


def show(report: ValidationReport) -> Any:
    return read_preview_page(default_registry().preview(report, "validation.report@1", {}))


def test_one_check_is_no_checks(tmp_path: Path) -> None:
    """Page, summary and text of a report with one check and one row say so in the singular."""
    report = ValidationReport("mine 1.0", [Check(name="odd", passed=True)], rows=1)
    assert str(report) == "mine 1.0: passed, 0 of 1 check failed, 0 warnings, 1 row"
    assert default_registry().save(report, tmp_path).summary["shape"] == "passed, 1 check"
    assert "1 row · 1 check<" in report_page(report)


def test_page_shows_failed_checks_first() -> None:
    """The page states verdict, sample, failed checks before others, failing rows, statistics and files."""
    text = show(REPORT).text
    assert "1 failed" in text
    assert "a random sample of 100,000 of them was checked" in text
    assert text.index("in_range") < text.index("not_null") < text.index("Wasserstein")
    for shown in ("853.0", "1 of 44 failing rows", "drift.share", "profile.bin"):
        assert shown in text


def test_page_of_the_library_is_in_a_sandboxed_frame(tmp_path: Path) -> None:
    """The stored page shows the library's own page in a frame without its origin; the preview does not."""
    default_registry().save(REPORT, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert '<iframe sandbox="allow-scripts" loading="lazy" src="files/page.html"></iframe>' in page
    assert "frame-src 'self' file:" in page
    assert (tmp_path / "files/page.html").read_bytes() == REPORT.files["page.html"]
    preview = default_registry().preview(REPORT, "validation.report@1", {})["preview.html"]
    assert "<iframe" not in str(preview)
    assert "frame-src" not in str(preview)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_page_escapes_everything(hostile: str) -> None:
    """Texts of tables and libraries cannot become markup of the page."""
    check = Check(
        name=hostile,
        column=hostile,
        passed=False,
        observed=hostile,
        expected=hostile,
        message=hostile,
        method=hostile,
        sample=(FailingRow(hostile, hostile),),
    )
    page = show(ValidationReport(hostile, [check], statistics={hostile: hostile, "nested": {hostile: hostile}}))
    assert not {"script", "img", "iframe"} & {tag for tag, _ in page.elements}


def test_check_keeps_a_bounded_sample_and_text() -> None:
    """A library that gives all failing rows, or a text of any length, does not make a large report."""
    rows = (FailingRow(str(at), "x" * 1000) for at in range(10**9))
    check = Check(name="a", passed=False, observed="y" * 10_000, sample=rows)  # type: ignore[arg-type]
    assert len(check.sample) == 20
    assert len(check.sample[0].value) == 60
    assert len(check.observed) == 300


def test_statistics_that_are_not_json_are_refused(tmp_path: Path) -> None:
    """A report whose statistics are objects is refused when it is saved, and says why."""
    with pytest.raises(SaveRefused, match="statistics of a report"):
        default_registry().save(ValidationReport("x", statistics={"a": object()}), tmp_path)


def test_damaged_report_is_refused(tmp_path: Path) -> None:
    """A document that is no report is an error that names the file."""
    (tmp_path / "report.json").write_text('{"validator": 3}')
    with pytest.raises(ArtifactCorrupt, match=r"report\.json"):
        default_registry().load(tmp_path, "validation.report@1")
