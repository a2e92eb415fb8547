"""The gates of a promotion: reports that passed, and gains over the present version on the same data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from airflow_zen.errors import StepDefinitionError
from airflow_zen.type_names import display_name
from airflow_zen.validation.evaluation import BASELINE_DIGEST, MODEL_DIGEST
from airflow_zen.validation.evaluation_report import EvaluationReport
from airflow_zen.validation.report import Check, ValidationReport


class Better(msgspec.Struct, frozen=True):
    """Ask that a metric of the candidate is better than that of the version that the alias has.

    Both are in an `EvaluationReport` among the gates, so that they were measured on the same rows. `by` is the least
    gain; of a loss it is the least reduction. `confident` asks it of all of the report's 95% interval. It passes for
    the first version of an alias. Raises `StepDefinitionError` for other values.
    """

    metric: str
    by: float = 0.0
    confident: bool = False

    def __post_init__(self) -> None:
        """Check the values where they are written."""
        metric: Any = self.metric
        by = _as_number(self.by)
        if not (isinstance(metric, str) and metric) or by is None or not 0 <= by < math.inf:
            raise StepDefinitionError(
                f"Better takes the name of a metric and a gain of at least 0, such as Better('roc_auc', by=0.002), got {self!r}."
            )


def _as_number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


class Contest(msgspec.Struct, frozen=True):
    """What is compared: the digests of the candidate and of the version that the alias has, and its number.

    `current` and `current_digest` are empty where the alias has no version.
    """

    candidate_digest: str
    current: str = ""
    current_digest: str = ""


def check_gates(gates: Sequence[Any], contest: Contest) -> list[Check]:
    """Return the checks of all gates: reports, lists of reports as mapped steps return them, and `Better`s.

    What is none of these, such as None from a task that was skipped, is a failed check.
    """
    gates = [*_flatten(gates)]
    reports = [gate for gate in gates if isinstance(gate, ValidationReport)]
    evaluations = [report for report in reports if isinstance(report, EvaluationReport)]
    found = [check for at, report in enumerate(reports, 1) for check in _check_report(report, at, contest)]
    found += [_refuse(gate) for gate in gates if not isinstance(gate, ValidationReport | Better)]
    return found + [_check_gain(gate, evaluations, contest) for gate in gates if isinstance(gate, Better)]


def _flatten(gates: Sequence[Any]) -> Iterator[Any]:
    for gate in gates:
        yield from _flatten(gate) if isinstance(gate, list | tuple) else [gate]


def _refuse(gate: Any) -> Check:
    return Check(
        name="report",
        column=display_name(type(gate)),
        passed=False,
        observed=display_name(type(gate)),
        expected="ValidationReport",
        message="The gate is no report, as after a task that was skipped. Pass the output of evaluate(…) or validate(…).",
    )


def _check_report(report: ValidationReport, number: int, contest: Contest) -> Iterator[Check]:
    """Yield whether a report passed, and whether it is about what is promoted now."""
    names = ", ".join(check.title for check in report.failures[:5])
    observed = "passed" if report.passed else f"failed: {names}"
    yield Check(name="report", column=str(number), passed=report.passed, observed=observed, message=report.validator)
    if not isinstance(report, EvaluationReport):
        return
    model, baseline = (str(report.statistics.get(key, "")) for key in (MODEL_DIGEST, BASELINE_DIGEST))
    if model and model != contest.candidate_digest:
        yield Check(
            name="evaluated_candidate",
            column=str(number),
            passed=False,
            observed=f"model {model[:12]}",
            expected=f"model {contest.candidate_digest[:12]}",
            message="The report is about another model. Evaluate the candidate itself.",
        )
    if baseline and baseline != contest.current_digest:
        yield Check(
            name="compared_with_current",
            column=str(number),
            passed=False,
            observed=f"baseline {baseline[:12]}",
            expected=f"version {contest.current}" if contest.current else "no version",
            message="The alias has moved since the evaluation. Evaluate again.",
        )


def _check_gain(gate: Better, reports: Sequence[EvaluationReport], contest: Contest) -> Check:
    """Return whether the gain of a metric suffices, in each report that has it."""
    expected = f"more than {gate.by:g}" if not gate.by else f"at least {gate.by:g}"
    expected += " in all of the 95% interval" if gate.confident else ""
    check = Check(name="better", column=gate.metric, passed=False, expected=expected, threshold=gate.by)
    key = f"gain.low.{gate.metric}" if gate.confident else f"gain.{gate.metric}"
    gains = [report.metrics[key] for report in reports if key in report.metrics]
    if gains:
        passed = all(gain >= gate.by and gain > 0 for gain in gains)
        observed = ", ".join(f"{gain:.4g}" for gain in gains)
        return msgspec.structs.replace(check, passed=passed, observed=observed, value=min(gains))
    if not contest.current:
        measured = any(gate.metric in report.metrics for report in reports)
        message = "The alias has no version yet." if measured else f"No report measures {gate.metric!r}. Evaluate it."
        return msgspec.structs.replace(check, passed=measured, observed="nothing to compare with", message=message)
    message = (
        f"No report among the gates compares {gate.metric!r} with version {contest.current}. Evaluate the candidate with "
        "evaluate(…, baseline='name@alias'), or write promote(…, table=…, target=…)."
    )
    return msgspec.structs.replace(check, observed="not compared", message=message)
