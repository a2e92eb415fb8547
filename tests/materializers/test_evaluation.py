"""Promises of `ClassificationEvaluation`: stored like any dataclass, shown as confusion matrix and ROC curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, f1_score, precision_score, roc_auc_score

from airflow_zen import ClassificationEvaluation
from airflow_zen.materializers.registry import default_registry
from tests.materializers.page_reading import HOSTILE, PreviewPage, read_preview_page
from tests.materializers.round_trip import assert_round_trip

RNG = np.random.default_rng(0)
TRUE = RNG.integers(0, 2, 3000)
SCORE = np.clip(TRUE * 0.3 + RNG.random(3000) * 0.7, 0, 1).round(2)
THREE = np.array(["cat", "dog", "emu"])
KIND = RNG.integers(0, 3, 900)
COLUMNS = RNG.dirichlet([1, 1, 1], 900) + np.eye(3)[KIND] * 0.4

VALUES: dict[str, Any] = {
    "arrays": lambda: ClassificationEvaluation(TRUE, SCORE),
    "series": lambda: ClassificationEvaluation(pd.Series(THREE[KIND]), COLUMNS, labels=THREE),
    "lists": lambda: ClassificationEvaluation(["a", "b"], y_pred=["b", "b"], labels=["a", "b"]),
}


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES.keys())
def test_evaluation_comes_back_exactly(make: Any, tmp_path: Path) -> None:
    """An evaluation is stored like any dataclass, its arrays and series as they are."""
    assert_round_trip(lambda _: make(), tmp_path)


def show(value: ClassificationEvaluation) -> PreviewPage:
    return read_preview_page(default_registry().preview(value, "python.json@1", {}))


def test_metrics_are_those_of_scikit_learn() -> None:
    """Counts, rates and the area under the curve are those of scikit-learn, also where scores are equal."""
    page = show(ClassificationEvaluation(TRUE, SCORE, threshold=0.6))
    predicted = (SCORE >= 0.6).astype(int)
    assert f"area {roc_auc_score(TRUE, SCORE):.4f}" in page.text
    assert f"accuracy {(predicted == TRUE).mean():.4f}" in page.text
    for count in confusion_matrix(TRUE, predicted).ravel():
        assert str(count) in page.text
    assert f"{precision_score(TRUE, predicted):.6g}" in page.text
    assert f"{f1_score(TRUE, predicted):.6g}" in page.text


def test_each_of_several_classes_has_a_curve() -> None:
    """Each of three classes has a curve against the others, and the class of the greatest score is the prediction."""
    page = show(ClassificationEvaluation(THREE[KIND], COLUMNS, labels=THREE))
    for at, name in enumerate(THREE):
        assert f"{name} · area {roc_auc_score(at == KIND, COLUMNS[:, at]):.4f}" in page.text
    assert f"accuracy {(COLUMNS.argmax(axis=1) == KIND).mean():.4f}" in page.text
    assert [tag for tag, _ in page.elements].count("polyline") == 3


def test_predictions_alone_have_a_matrix() -> None:
    """Without scores the page has a matrix and no curve; without predictions, and with more than two classes, none."""
    page = show(ClassificationEvaluation(["a", "b", "a"], y_pred=["a", "a", "a"]))
    assert "accuracy 0.6667" in page.text
    assert "ROC" not in page.text
    assert "matrix" not in show(ClassificationEvaluation([0, 1, 2], [0.1, 0.2, 0.3])).text


def test_unusual_evaluations_are_shown() -> None:
    """An evaluation of one class, of no sample, or with missing scores has a page too."""
    show(ClassificationEvaluation([], []))
    show(ClassificationEvaluation([1, 1], [0.5, 0.5]))
    show(ClassificationEvaluation([0, 1], [np.nan, 0.5]))
    show(ClassificationEvaluation([0, 1], [[0.5, 0.5], [0.1, 0.9]], labels=[0, 1]))


def test_unequal_lengths_are_an_error() -> None:
    """Predictions and classes of different lengths raise an error that names both lengths."""
    with pytest.raises(ValueError, match="3 samples, and there are 2 predictions"):
        show(ClassificationEvaluation([0, 1, 0], y_pred=[0, 1]))


def test_many_classes_are_truncated() -> None:
    """The page shows 20 of a thousand classes, and says so."""
    page = show(ClassificationEvaluation(list(range(1000)), y_pred=list(range(1000))))
    assert "980 more classes" in page.text
    assert [tag for tag, _ in page.elements].count("rect") == 400


def test_names_of_classes_are_escaped() -> None:
    """Class names are text in the page, not markup."""
    page = show(ClassificationEvaluation(list(HOSTILE), y_pred=list(HOSTILE)))
    assert page.text.count("<svg onload=alert(1)>") >= 2
    show(ClassificationEvaluation([*HOSTILE[:2]] * 2, [0.1, 0.9, 0.2, 0.8], labels=list(HOSTILE[:2])))
