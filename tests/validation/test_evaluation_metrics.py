"""Promises of metrics: the values of scikit-learn, and a bootstrap that equals a direct loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from airflow_zen.errors import ValidationDefinitionError
from airflow_zen.validation.evaluation_metrics import Predictions, metrics_of, paired_gains

NAMES = {
    "regression": ["mae", "rmse", "r2", "median_absolute_error"],
    "binary": [
        *("roc_auc", "average_precision", "accuracy", "balanced_accuracy", "log_loss", "precision", "recall"),
        *("f1", "brier"),
    ],
    "multiclass": [
        *("accuracy", "balanced_accuracy", "log_loss", "precision_macro", "recall_macro", "f1_macro", "roc_auc"),
    ],
    "ranking": ["ndcg", "roc_auc", "average_precision"],
}


def made(task: str, seed: int, rows: int = 120) -> Predictions:
    """Return predictions with ties, of the same truth for each seed."""
    truth, own = np.random.default_rng(99), np.random.default_rng(seed)
    if task == "regression":
        true = truth.normal(size=rows)
        return Predictions(task, true, true + own.normal(size=rows))
    if task == "multiclass":
        true = truth.integers(0, 3, rows)
        scores = own.dirichlet([1, 1, 1], rows) + np.eye(3)[true]
        scores /= scores.sum(axis=1, keepdims=True)
        return Predictions(task, true, scores.argmax(axis=1), scores, np.array(["a", "b", "c"]))
    true = truth.integers(0, 2, rows)
    scores = np.round(np.clip(own.normal(0.35 + 0.3 * true, 0.25), 0.01, 0.99), 1)
    if task == "ranking":
        return Predictions(task, true.astype(float), scores, scores)
    return Predictions(task, true, (scores >= 0.5).astype(int), scores, np.array([False, True]))


@pytest.mark.parametrize("task", NAMES)
def test_bootstrap_equals_a_direct_loop(task: str) -> None:
    """The gains of all resamples are those that scikit-learn gives for the rows of each, one by one."""
    ours, theirs = made(task, 1), made(task, 2)
    metrics = metrics_of(ours, NAMES[task])
    found = paired_gains(metrics, ours, theirs, 25, seed=7)
    generator = np.random.default_rng(7)
    for at in range(25):
        rows = generator.integers(0, 120, size=120)
        for metric in metrics:
            expected = metric.compute(ours.take(rows)) - metric.compute(theirs.take(rows))
            expected = -expected if metric.lower_is_better else expected
            assert found[metric.name][at] == pytest.approx(expected, abs=1e-9), (metric.name, at)


def test_values_are_those_of_sklearn() -> None:
    """Each name is the metric of scikit-learn that it says."""
    found = made("binary", 1)
    expected: dict[str, Any] = {
        "roc_auc": sk.roc_auc_score(found.true, found.scores),
        "average_precision": sk.average_precision_score(found.true, found.scores),
        "log_loss": sk.log_loss(found.true, found.scores),
        "brier": sk.brier_score_loss(found.true, found.scores),
        "recall": sk.recall_score(found.true, found.predicted),
    }
    assert {metric.name: metric.value(found) for metric in metrics_of(found, list(expected))} == expected
    numbers = made("regression", 1)
    (rmse,) = metrics_of(numbers, ["rmse"])
    assert rmse.value(numbers) == pytest.approx(np.sqrt(np.mean((numbers.true - numbers.predicted) ** 2)))


def test_chunks_of_resamples_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resamples are the same, however many of them are in memory at once."""
    ours, theirs = made("regression", 1), made("regression", 2)
    metrics = metrics_of(ours, ["mae"])
    whole = paired_gains(metrics, ours, theirs, 20, seed=0)["mae"]
    monkeypatch.setattr("airflow_zen.validation.evaluation_metrics._CHUNK_CELLS", 3 * 120)
    assert paired_gains(metrics, ours, theirs, 20, seed=0)["mae"] == pytest.approx(whole, rel=1e-12)


def test_resample_of_one_class_is_not_a_number() -> None:
    """A resample that does not define a metric is NaN, and the others are used."""
    true = np.array([0, 0, 0, 0, 1])
    ours = Predictions("binary", true, true, np.array([0.1, 0.2, 0.3, 0.2, 0.9]), np.array([0, 1]))
    found = paired_gains(metrics_of(ours, ["roc_auc"]), ours, ours, 50, seed=0)["roc_auc"]
    assert 0 < np.isnan(found).sum() < 50
    assert set(found[~np.isnan(found)]) == {0.0}


def test_functions_of_users_get_the_values_of_the_target() -> None:
    """A function is a metric of the true and predicted values, under its own name."""

    def share_of_b(true: Any, predicted: Any) -> float:
        return float(np.mean(predicted == "b"))

    found = made("multiclass", 1)
    (metric,) = metrics_of(found, [share_of_b])
    assert (metric.name, metric.value(found)) == ("share_of_b", np.mean(found.predicted == 1))


def test_unknown_metric_is_refused() -> None:
    """A name that is no metric of the task is an error that lists those that are."""
    with pytest.raises(ValidationDefinitionError, match="'roc_auc' is no metric of a regression model; there are mae"):
        metrics_of(made("regression", 1), ["roc_auc"])
    with pytest.raises(ValidationDefinitionError, match="metrics= is empty"):
        metrics_of(made("regression", 1), [])


def test_usual_metrics_are_those_that_the_model_can_have() -> None:
    """Without probabilities, the usual metrics have none that need them."""
    whole = made("binary", 1)
    bare = Predictions("binary", whole.true, whole.predicted, None, whole.labels)
    assert "log_loss" in {metric.name for metric in metrics_of(whole, None)}
    assert {metric.name for metric in metrics_of(bare, None)} == {"accuracy", "f1", "precision", "recall"}
