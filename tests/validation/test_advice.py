"""Promises of failed checks of an evaluation: what their messages advise is done, and the checks pass."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from airflow_zen import Check, ValidationReport
from airflow_zen.validation.evaluation import evaluate_model
from tests.advice import advice_of, libraries_of_extra

ROWS = 60
TABLE = pd.DataFrame({"x": np.arange(ROWS), "kind": np.arange(ROWS) // 20})
TABLE["late"] = TABLE["kind"] > 0
FEATURES = TABLE[["x"]]
CLASSES = LogisticRegression().fit(FEATURES, TABLE["kind"])
SCORES = RidgeClassifier().fit(FEATURES, TABLE["late"])


class Classes:
    """A model that predicts classes, and scores nothing."""

    def predict(self, table: Any) -> Any:
        return table["x"].to_numpy() >= 20


def _given(table: Any) -> dict[str, Any]:
    return {"model": SCORES, "table": table, "target": "late", "metrics": ["accuracy"]}


ADVICE: dict[str, tuple[dict[str, Any], str, list[dict[str, Any]]]] = {
    "metric of scores": (
        _given(TABLE) | {"model": Classes(), "metrics": ["roc_auc"]},
        "Choose metrics of its classes.",
        [{"metrics": ["accuracy"]}],
    ),
    "metric of probabilities": (
        _given(TABLE) | {"metrics": ["log_loss"]},
        "Choose another metric.",
        [{"metrics": ["roc_auc"]}],
    ),
    "no table": (_given([1]), "Return one from the step.", [{"table": TABLE}]),
    "no model": (_given(TABLE) | {"model": object()}, "a model of scikit-learn's interface.", [{"model": SCORES}]),
    "three classes": (
        _given(TABLE) | {"model": CLASSES, "target": "kind", "task_type": "binary"},
        "Write task='multiclass'.",
        [{"task_type": "multiclass"}],
    ),
    "own check": (
        _given(TABLE) | {"checks": [lambda model, table: 3]},
        "Return a Check, a list of them, a ValidationReport, or a bool.",
        [
            {"checks": [lambda model, table, found=found: found]}
            for found in (
                Check(name="a", passed=True),
                [Check(name="a", passed=True)],
                ValidationReport("a", [Check(name="a", passed=True)]),
                True,
            )
        ],
    ),
}


def test_evaluation_without_scikit_learn() -> None:
    """Without scikit-learn nothing is evaluated; the extra that the error names installs it, and with it the model is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "sklearn.metrics", None)
        (extra,) = advice_of(
            lambda: evaluate_model(**_given(TABLE), resamples=20),
            r"Install airflow-provider-zen\[(\w+)\] where the step runs\.$",
        )
    assert "scikit-learn" in libraries_of_extra(extra)
    assert evaluate_model(**_given(TABLE), resamples=20).passed


@pytest.mark.parametrize(("given", "advice", "changes"), ADVICE.values(), ids=ADVICE.keys())
def test_evaluation_as_the_failed_check_says(given: Any, advice: str, changes: list[dict[str, Any]]) -> None:
    """The message of the only failed check ends with what to do; with each of it the evaluation passes."""
    (failure,) = evaluate_model(**given, resamples=20).failures
    assert failure.message.endswith(advice)
    for change in changes:
        assert evaluate_model(**{**given, **change}, resamples=20).passed
