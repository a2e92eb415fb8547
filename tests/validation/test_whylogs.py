"""Promises of the validator `Whylogs`, in an environment of its own, because whylogs needs an old NumPy and pandas."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from airflow.sdk import dag

from airflow_zen import load, ml_step, validate
from airflow_zen.errors import MaterializerNotFound, ValidationDefinitionError
from airflow_zen.materializers.registry import default_registry
from airflow_zen.runtimes import Python, Virtualenv, parse_runtime
from airflow_zen.validation.whylogs import Whylogs, WhylogsProfiles, constraint, profile_table
from tests.harness import run_dag
from tests.validation.environments import environment_of, run_there

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter of an environment with whylogs."""
    return environment_of(Whylogs)


@pytest.fixture(scope="module")
def cases(python: str) -> dict[str, Any]:
    """What whylogs finds in the tables of `whylogs_cases`."""
    found: dict[str, Any] = run_there(python, "whylogs_cases")
    return found


def by_title(report: dict[str, Any]) -> dict[str, Any]:
    return {check["title"]: check for check in report["checks"]}


def test_verdict_is_the_librarys_own(cases: dict[str, Any]) -> None:
    """Constraints and drift have the verdicts of whylogs by hand; drift has its method, value and threshold."""
    found = cases["by_hand"]
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


def test_profiles_of_parts_merge(cases: dict[str, Any]) -> None:
    """Reports of mapped parts are checked as the whole table is, and compared with the profile of an earlier report."""
    found = cases["merged"]
    whole, together = found["whole"], found["together"]
    assert together["rows"] == whole["rows"] == found["n"] == sum(part["rows"] for part in found["parts"])
    assert together["statistics"]["dep_delay"]["mean"] == pytest.approx(whole["statistics"]["dep_delay"]["mean"])
    verdicts = {check["title"]: check["passed"] for check in together["checks"]}
    assert {check["title"]: check["passed"] for check in whole["checks"]}.items() <= verdicts.items()
    assert "drift(dep_delay)" in verdicts
    assert "got DataFrame" in by_title(found["wrong"])["validator_runs"]["message"]


def test_profile_is_an_artifact(cases: dict[str, Any]) -> None:
    """A profile is stored under an encoding of its own, read as it was, and shown as a table of its columns."""
    found = cases["stored"]
    assert (found["encoding"], found["shape"]) == ("whylogs.profile@1", "profile of 500 rows, 19 columns")
    assert found["means"][0] == found["means"][1]
    assert found["pinned"] == {"x": 5.0}
    assert "dep_delay" in found["page"]
    assert "stddev" in found["page"]
    assert "None" not in found["page"]


def test_runtime_of_the_user_is_used(python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that the user names takes the place of the validator's own, for a profile and for the check of it."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))

    @ml_step
    def table() -> pd.DataFrame:
        return pd.DataFrame({"distance": [1.0, 2.0, 9000.0]})

    @dag(schedule=None)
    def profiled() -> None:
        profile = ml_step(runtime=Python(python))(profile_table)(table())
        suite = WhylogsProfiles(constraint("is_in_range", "distance", lower=0, upper=5000))
        validate(profile, suite, reference=profile, runtime=Python(python), on_failure="warn", task_id="check")

    run = run_dag(profiled())
    assert set(run.states.values()) == {"success"}, run.states
    report = load(run.xcom("check"))
    assert (report.rows, [check.title for check in report.failures]) == (3, ["is_in_range(distance)"])
    assert report.check("drift", "distance").passed


def test_profile_is_read_only_where_whylogs_is(tmp_path: Path) -> None:
    """Reading a profile beside Airflow, where whylogs cannot be installed, is an error that names it."""
    (tmp_path / "profile.bin").write_bytes(b"")
    with pytest.raises(MaterializerNotFound, match="Install whylogs"):
        default_registry().load(tmp_path, "whylogs.profile@1")


def test_bad_tables_fail_in_checks(cases: dict[str, Any]) -> None:
    """A column without numbers, which whylogs lets pass, and an unknown column, constraint or reference fail."""
    for name, (table, reference) in cases["broken"].items():
        assert "validator_runs" not in {**by_title(table), **by_title(reference)}
        for title in ("is_non_negative(gone)", "nonsense(carrier)"):
            assert name == "empty" or not by_title(table)[title]["passed"], (name, title)
            assert not by_title(reference)[title]["passed"], (name, title)
        if name == "empty":
            assert not by_title(table)["not_empty"]["passed"]
            assert not by_title(reference)["drift(dep_delay)"]["passed"]
            continue
        assert not by_title(table)["smaller_than_number(dep_delay)"]["passed"], name
        failed = {check["title"] for check in reference["checks"] if not check["passed"]}
        assert failed & {"reference_schema(dep_delay)", "drift(dep_delay)"}, (name, failed)
        assert by_title(table)["is_in_range(distance)"]["passed"]


def test_tables_are_profiled_in_batches(cases: dict[str, Any]) -> None:
    """A file is profiled in batches of at most 65,536 rows."""
    found = cases["streamed"]
    assert found["passed"]
    assert found["rows"] == found["expected"] == sum(found["sizes"])
    assert max(found["sizes"]) <= 65_536 < found["rows"]


def test_it_still_needs_an_environment_of_its_own(python: str) -> None:
    """Whylogs uses a name that NumPy 2 does not have; when this fails, try it beside Airflow, and drop the runtime."""
    assert isinstance(parse_runtime(Whylogs.runtime, "a test"), Virtualenv)
    code = "from importlib.util import find_spec; print(*find_spec('whylogs').submodule_search_locations)"
    folder = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    users = subprocess.run(["grep", "-rlF", "np.unicode_", folder], capture_output=True, text=True, check=False)
    assert users.stdout, "whylogs no longer uses numpy.unicode_."
    assert not hasattr(np, "unicode_")


def test_what_is_no_constraint_is_refused() -> None:
    """A constraint is made by `constraint`, and something else is refused where it is written."""
    with pytest.raises(ValidationDefinitionError, match="takes constraints such as"):
        Whylogs("no_missing_values")
