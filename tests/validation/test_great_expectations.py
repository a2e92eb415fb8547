"""Promises of the validator `GreatExpectations`: the library's verdicts, in the order of the suite."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_zen.errors import ValidationDefinitionError
from airflow_zen.validation.great_expectations import DATA_DOCS, GreatExpectations
from airflow_zen.validation.validators import run_validator
from tests.validation.flights import BROKEN, failed, flights, month, titled

SUITE: list[dict[str, Any]] = [
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "origin", "value_set": ["JFK", "LGA"]}},
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "dep_delay", "mostly": 0.95}},
    {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "dep_delay", "min_value": -60, "max_value": 600},
        "severity": "warning",
    },
    {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1000}},
    {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "dep_delay", "min_value": 0, "max_value": 20}},
]


def by_hand(frame: Any) -> list[dict[str, Any]]:
    """Return the results that Great Expectations has for the suite, by type and column."""
    # Seconds, which each worker of the tests would spend.
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    batch = context.data_sources.add_pandas("p").add_dataframe_asset("a").add_batch_definition_whole_dataframe("b")
    suite = context.suites.add(gx.ExpectationSuite(name="s", expectations=[dict(each) for each in SUITE]))
    check = context.validation_definitions.add(gx.ValidationDefinition(name="v", data=batch, suite=suite))
    return [each.to_json_dict() for each in check.run(batch_parameters={"dataframe": frame}).results]


def test_verdict_is_the_librarys_own() -> None:
    """On all flights each expectation has the verdict and the number of failing rows of the library called by hand."""
    report = run_validator(GreatExpectations(SUITE), flights(), sample=0)
    expected = {
        (each["expectation_config"]["type"], each["success"], each["result"].get("unexpected_count"))
        for each in by_hand(flights())
    }
    assert {(check.name, check.passed, check.failing) for check in report.checks[1:]} == expected
    assert [check.name for check in report.checks[1:]] == [each["type"] for each in SUITE]
    assert failed(report) == {"expect_column_values_to_be_in_set(origin)"}
    assert [check.name for check in report.warnings] == ["expect_column_values_to_be_between"]
    first = flights().query("origin == 'EWR'").index[0]
    assert report.failures[0].sample[0].label == str(first)
    assert report.failures[0].sample[0].value == "EWR"


def test_sample_keeps_the_labels_of_rows() -> None:
    """A failing row of the sample that is checked has its number in the whole table."""
    report = run_validator(GreatExpectations(SUITE[:1]), flights(), sample=1000)
    assert (report.rows, report.sampled) == (336_776, 1000)
    labels = [int(row.label) for row in report.failures[0].sample]
    assert set(flights()["origin"][labels]) == {"EWR"}
    assert max(labels) > 1000


def test_a_suite_has_several_forms(tmp_path: Path) -> None:
    """A suite object, its dict, its list of expectations and a JSON file beside the code are the same validator."""
    import great_expectations as gx

    whole = {"name": "s", "expectations": SUITE}
    suite = gx.ExpectationSuite(name="s", expectations=[dict(each) for each in SUITE])
    (tmp_path / "suite.json").write_text(json.dumps(whole))
    (tmp_path / "beside.py").write_text(
        "from airflow_zen.validation.great_expectations import GreatExpectations\n"
        "VALIDATOR = GreatExpectations('suite.json')\n"
    )
    names: dict[str, Any] = {}
    exec(compile((tmp_path / "beside.py").read_text(), str(tmp_path / "beside.py"), "exec"), names)
    assert names["VALIDATOR"] == GreatExpectations(whole) == GreatExpectations(tmp_path / "suite.json")
    found = GreatExpectations(suite).suite["expectations"]
    assert [(each["type"], each["kwargs"]["column"]) for each in found if "column" in each["kwargs"]] == [
        (each["type"], each["kwargs"]["column"]) for each in SUITE if "column" in each["kwargs"]
    ]


@pytest.mark.parametrize("given", ["missing.json", {"expectations": [{"kwargs": {}}]}, {"name": "s"}, [3], 3])
def test_what_is_no_suite_is_refused(given: Any) -> None:
    """A file that is missing, and a suite that is none, are refused where they are written."""
    with pytest.raises(ValidationDefinitionError, match=r"cannot be read|takes a suite"):
        GreatExpectations(given)


def test_a_wrong_expectation_leaves_the_others() -> None:
    """An expectation that the library refuses is a failed check in its place."""
    wrong = [{"type": "expect_nothing", "kwargs": {}}, {"type": "expect_column_to_exist", "kwargs": {"col": "a"}}]
    report = run_validator(GreatExpectations([wrong[0], SUITE[3], wrong[1]]), month(1))
    found = [(check.name, check.passed) for check in report.checks[1:]]
    assert found == [("expect_nothing", False), (SUITE[3]["type"], True), ("expect_column_to_exist", False)]
    assert "expect_nothing" in report.checks[1].message


@pytest.mark.parametrize(
    ("broken", "titles"),
    {
        "empty": {"not_empty"},
        "missing column": {
            "expect_column_mean_to_be_between(dep_delay)",
            "expect_column_values_to_not_be_null(dep_delay)",
        },
        "wrong dtype": {"expect_column_mean_to_be_between(dep_delay)"},
        "all null": {"expect_column_mean_to_be_between(dep_delay)", "expect_column_values_to_not_be_null(dep_delay)"},
        "null objects": {
            "expect_column_mean_to_be_between(dep_delay)",
            "expect_column_values_to_not_be_null(dep_delay)",
        },
        "mixed objects": {"expect_column_mean_to_be_between(dep_delay)"},
        "nested lists": {"expect_column_mean_to_be_between(dep_delay)"},
        "nested dicts": {"expect_column_mean_to_be_between(dep_delay)"},
    }.items(),
)
def test_bad_tables_fail_in_checks(broken: str, titles: set[str]) -> None:
    """What is wrong with a table is a failed check with a one-line reason, whichever shape the library's error has."""
    report = run_validator(GreatExpectations(SUITE), BROKEN[broken](month(1)))
    assert titles <= failed(report)
    assert "validator_runs" not in titled(report)
    assert not any("Traceback" in check.message or "\n" in check.message for check in report.checks)


def test_page_of_the_library_and_no_progress_bars(capfd: pytest.CaptureFixture[str]) -> None:
    """The library's page is beside the report, and nothing is written to the log."""
    report = run_validator(GreatExpectations(SUITE), month(1))
    assert b"expect_column" in report.files[DATA_DOCS] or b"dep_delay" in report.files[DATA_DOCS]
    assert capfd.readouterr() == ("", "")


def test_library_is_not_imported_with_the_validator() -> None:
    """A DAG file that names the validator does not import Great Expectations."""
    import subprocess

    code = (
        "import sys; from airflow_zen.validation.great_expectations import GreatExpectations; GreatExpectations([]);"
        "sys.exit('great_expectations' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
