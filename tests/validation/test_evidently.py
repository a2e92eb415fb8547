"""Promises of the validator `Evidently`, in an environment of its own: it does not run beside pandas 3."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from airflow_zen.errors import ValidationDefinitionError
from airflow_zen.runtimes import Virtualenv, parse_runtime
from airflow_zen.validation.evidently import DataDriftPreset, Evidently, condition, metric
from tests.validation.environments import environment_of, run_there

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter of an environment with Evidently."""
    return environment_of(Evidently)


@pytest.fixture(scope="module")
def cases(python: str) -> dict[str, Any]:
    """What Evidently finds in the tables of `evidently_cases`."""
    found: dict[str, Any] = run_there(python, "evidently_cases")
    return found


def by_title(report: dict[str, Any]) -> dict[str, Any]:
    return {check["title"]: check for check in report["checks"]}


def failed(report: dict[str, Any]) -> set[str]:
    return {check["title"] for check in report["checks"] if not check["passed"] and check["severity"] == "error"}


def test_drift_is_the_librarys_own(cases: dict[str, Any]) -> None:
    """Drift has the statistics and verdicts of Evidently by hand, with method and threshold, and Evidently's page."""
    found = cases["drift"]
    checks = by_title(found)
    for column in filter(None, found["values"]):
        check = checks[f"ValueDrift({column})"]
        assert check["value"] == pytest.approx(found["values"][column], rel=1e-9)
        assert check["passed"] == found["tests"][column]
        assert (check["threshold"], bool(check["method"])) == (0.1, True)
    assert found["metrics"] == {
        "drift.share": found["values"][""]["share"],
        "drift.columns": found["values"][""]["count"],
    }
    assert checks["DriftedColumnsCount"]["passed"] == found["tests"][""]
    assert checks["DriftedColumnsCount"]["expected"] == "below 0.500"
    assert found["page"][0] > 1_000_000
    assert found["page"][1] in ("<!doctype", "<html>\n<h")


def test_bad_tables_fail_in_checks(cases: dict[str, Any]) -> None:
    """A broken column is a failed check of its own, and the other columns are compared all the same."""
    for name, (table, reference) in cases["broken"].items():
        for report in (table, reference):
            assert "validator_runs" not in by_title(report), name
            assert not any("Traceback" in check["message"] for check in report["checks"])
        if name == "empty":
            assert "not_empty" in failed(table)
            assert "has_values(dep_delay)" in failed(reference)
            continue
        for titles in map(failed, (table, reference)):
            assert any(title.endswith("(dep_delay)") for title in titles), (name, titles)
            assert any(title.endswith("(gone)") for title in titles)
            assert "Nonsense(origin)" in titles
        assert by_title(table)["ValueDrift(distance)"]["passed"]


def test_presets(cases: dict[str, Any]) -> None:
    """Summary, target drift, and the quality of predictions against thresholds are Evidently's figures."""
    found = cases["presets"]
    assert "MissingValueCount(dep_delay)" in failed(found["summary"])
    assert by_title(found["target"])["ValueDrift(dep_delay)"]["method"] == "K-S p_value"
    (nulls,) = [check for check in found["nulls"]["checks"] if not check["passed"]]
    assert (nulls["title"], nulls["severity"], nulls["observed"]) == (
        "MissingValueCount(dep_delay)",
        "warning",
        "521.000",
    )
    assert failed(found["regression"]) == {"MAE"}
    assert float(by_title(found["regression"])["MAE"]["observed"]) == pytest.approx(found["mae"], abs=1e-3)
    assert failed(found["classification"]) == {"RocAuc"}
    assert float(by_title(found["classification"])["RocAuc"]["observed"]) == pytest.approx(found["auc"], abs=1e-3)


def test_it_still_needs_an_environment_of_its_own(python: str) -> None:
    """Evidently imports a name that pandas 3 lacks; when this fails, try it beside Airflow, and drop the runtime."""
    assert isinstance(parse_runtime(Evidently.runtime, "a test"), Virtualenv)
    code = "from importlib.util import find_spec; print(*find_spec('evidently').submodule_search_locations)"
    folder = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    users = subprocess.run(
        ["grep", "-rlE", "import infer_dtype_from_object", folder], capture_output=True, text=True, check=False
    )
    assert users.stdout, "Evidently no longer imports pandas.core.dtypes.common.infer_dtype_from_object."
    with pytest.raises(ImportError):
        from pandas.core.dtypes.common import infer_dtype_from_object  # noqa: F401


def test_what_is_no_metric_is_refused() -> None:
    """A wrong metric, test or task is refused where it is written, without Evidently."""
    for wrong in (lambda: Evidently("DataDriftPreset"), lambda: Evidently(metric("MAE"), task="ranking")):
        with pytest.raises(ValidationDefinitionError, match="Evidently"):
            wrong()
    with pytest.raises(ValidationDefinitionError, match="A test of Evidently"):
        condition("below", 3)
    with pytest.raises(ValidationDefinitionError, match="target and prediction"):
        Evidently(DataDriftPreset(), task="binary", target="late")
