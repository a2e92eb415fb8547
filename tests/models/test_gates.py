"""Promises of the gates of a promotion: what passes, and that nothing is passed over."""

import pytest

from airflow_zen.models.gates import Better, Contest, check_gates
from airflow_zen.validation.evaluation import BASELINE_DIGEST, MODEL_DIGEST
from airflow_zen.validation.evaluation_report import EvaluationReport
from airflow_zen.validation.report import Check, ValidationReport

CONTEST = Contest("a" * 64, "3", "b" * 64)
GOOD = ValidationReport("good", (Check(name="not_null", passed=True),))
BAD = ValidationReport("bad", (Check(name="not_null", passed=False),))


def evaluation(gain):
    """A comparison of the candidate with the present version on one of several tables."""
    digests = {MODEL_DIGEST: CONTEST.candidate_digest, BASELINE_DIGEST: CONTEST.current_digest}
    return EvaluationReport("evaluation", (), statistics=digests, metrics={"rmse": 1.0, "gain.rmse": gain})


@pytest.mark.parametrize(
    ("gates", "passed"),
    [
        ([GOOD], True),
        ([GOOD, BAD], False),
        ([[GOOD, GOOD]], True),
        ([[GOOD, BAD]], False),
        ([None], False),
        ([GOOD, {"passed": True}], False),
        ([GOOD, Better("rmse")], False),
        ([evaluation(gain=0.2), Better("rmse", by=0.1)], True),
        ([evaluation(gain=0.2), evaluation(gain=-0.1), Better("rmse")], False),
        ([evaluation(gain=0.2), evaluation(gain=float("nan")), Better("rmse")], False),
    ],
)
def test_every_gate_counts(gates, passed):
    """Reports, lists of them and comparisons count; what is no gate, as after a skipped task, is a failed check."""
    checks = check_gates(gates, CONTEST)
    assert all(check.passed for check in checks) is passed
    assert all(check.message or check.observed for check in checks if not check.passed)
