"""Promises of the validator `Whylogs`, in an environment of its own, because whylogs needs an old NumPy and pandas."""

from __future__ import annotations

import subprocess
from typing import Any

import numpy as np
import pytest

from airflow_zen.errors import ValidationDefinitionError
from airflow_zen.runtimes import Virtualenv, parse_runtime
from airflow_zen.validation.whylogs import Whylogs
from tests.validation import whylogs_cases
from tests.validation.environments import environment_of, run_there

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter of an environment with whylogs."""
    return environment_of(Whylogs)


def by_title(report: dict[str, Any]) -> dict[str, Any]:
    return {check["title"]: check for check in report["checks"]}


def test_verdict_is_the_librarys_own(python: str) -> None:
    """Constraints and drift have the verdicts of whylogs by hand; drift has its method, value and threshold."""
    found = run_there(python, whylogs_cases.by_hand)
    checks = found["checks"]
    assert [check["passed"] for check in checks[1:5]] == found["expected"]
    assert {check["passed"] for check in checks[1:5]} == {True, False}
    assert checks[3]["severity"] == "warning"
    for column, (_, is_drift) in found["drift"].items():
        check = by_title(found)[f"drift({column})"]
        assert check["passed"] == (not is_drift)
        assert (check["threshold"], "p-value" in check["method"]) == (0.05, True)
    drifted = sum(is_drift for _, is_drift in found["drift"].values())
    assert found["metrics"] == {"drift.columns": drifted, "drift.share": pytest.approx(drifted / 3)}
    assert found["statistics"]["dep_delay"]["mean"] == pytest.approx(found["mean"])


def test_profiles_of_parts_merge(python: str) -> None:
    """Reports of mapped parts are checked as the whole table is, and compared with the profile of an earlier report."""
    found = run_there(python, whylogs_cases.merged)
    whole, together = found["whole"], found["together"]
    assert together["rows"] == whole["rows"] == found["n"] == sum(part["rows"] for part in found["parts"])
    assert together["statistics"]["dep_delay"]["mean"] == pytest.approx(whole["statistics"]["dep_delay"]["mean"])
    verdicts = {check["title"]: check["passed"] for check in together["checks"]}
    assert {check["title"]: check["passed"] for check in whole["checks"]}.items() <= verdicts.items()
    assert "drift(dep_delay)" in verdicts


def test_bad_tables_fail_in_checks(python: str) -> None:
    """A column without numbers fails where whylogs lets it pass, and an unknown column or constraint is a failed check."""
    for name, report in run_there(python, whylogs_cases.broken).items():
        checks = by_title(report)
        assert "validator_runs" not in checks
        if name == "empty":
            assert not checks["not_empty"]["passed"]
            continue
        for title in ("smaller_than_number(dep_delay)", "is_non_negative(gone)", "nonsense(carrier)"):
            assert not checks[title]["passed"], (name, title)
        assert checks["is_in_range(distance)"]["passed"]


def test_tables_are_profiled_in_batches(python: str) -> None:
    """A file is profiled in batches of at most 65,536 rows."""
    found = run_there(python, whylogs_cases.streamed)
    assert found["passed"]
    assert found["rows"] == found["expected"] == sum(found["sizes"])
    assert max(found["sizes"]) <= 65_536 < found["rows"]


def test_it_still_needs_an_environment_of_its_own(python: str) -> None:
    """Whylogs uses a name that NumPy 2 does not have; when this fails, try it beside Airflow, and drop the runtime."""
    assert isinstance(parse_runtime(Whylogs.runtime, "a test"), Virtualenv)
    code = "import whylogs, pathlib; print(pathlib.Path(whylogs.__file__).parent)"
    folder = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    users = subprocess.run(["grep", "-rlF", "np.unicode_", folder], capture_output=True, text=True, check=False)
    assert users.stdout, "whylogs no longer uses numpy.unicode_."
    assert not hasattr(np, "unicode_")


def test_what_is_no_constraint_is_refused() -> None:
    """A constraint is made by `constraint`, and something else is refused where it is written."""
    with pytest.raises(ValidationDefinitionError, match="takes constraints such as"):
        Whylogs("no_missing_values")
