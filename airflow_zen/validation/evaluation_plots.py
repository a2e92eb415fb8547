"""The plots of an evaluation: curves, calibration, confusion, residuals, and importance of features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from airflow_zen.validation.evaluation_metrics import CLASSIFICATION, Metric, Predictions
from airflow_zen.validation.evaluation_report import Curve, Plot

_MAX_POINTS, _MAX_CLASSES, _BINS = 300, 20, 10
_IMPORTANCE_ROWS, _REPEATS, _MAX_FEATURES = 2000, 5, 20
_SHAP_ROWS, _SHAP_BACKGROUND = 200, 100


def plots_of(found: Predictions) -> Iterator[Plot]:
    """Yield the plots that the predictions of a task have."""
    if found.task in CLASSIFICATION:
        yield _confusion(found)
        if found.scores is not None:
            yield from _score_plots(found)
    elif found.task == "regression":
        yield from _residuals(found)


def permutation_importance(features: Any, metric: Metric, predictions_of: Any) -> Iterator[Plot]:
    """Yield how much worse the metric is when the values of each feature are permuted: the mean of 5 permutations.

    At most 2000 rows are used, drawn with seed 0. `predictions_of` returns the predictions for other features of rows
    by position. There is no plot for a model of no or of more than 200 features.
    """
    if not 0 < features.shape[1] <= _MAX_FEATURES * 10:
        return
    generator = np.random.default_rng(0)
    rows = _sampled_rows(generator, len(features), _IMPORTANCE_ROWS)
    features = features.iloc[rows]
    whole = metric.value(predictions_of(features, rows))
    losses = []
    for at in range(features.shape[1]):
        found = []
        for _ in range(_REPEATS):
            order, moved = generator.permutation(len(features)), features.copy(deep=False)
            moved.isetitem(at, features.iloc[order, at].set_axis(features.index))
            found.append(float(metric.gain(whole, metric.value(predictions_of(moved, rows)))))
        losses.append(float(np.mean(found)))
    title = f"Permutation importance: loss of {metric.name}, mean of {_REPEATS}, {len(features):,} rows"
    yield _importance(title, features.columns, losses)


def shap_importance(model: Any, features: Any) -> Iterator[Plot]:
    """Yield the mean of the absolute SHAP values of each feature (Lundberg and Lee, 2017), where shap is installed.

    At most 200 rows are used, drawn with seed 0, against a background of 100 of them. The explainer is the one that
    shap chooses for the model, or for its predictions where it does not know the model.
    """
    if find_spec("shap") is None or not 0 < features.shape[1] <= _MAX_FEATURES * 10:
        return
    import shap

    features = features.iloc[_sampled_rows(np.random.default_rng(0), len(features), _SHAP_ROWS)]
    background = shap.maskers.Independent(features, max_samples=_SHAP_BACKGROUND)
    try:
        explainer = shap.Explainer(model, background, seed=0)
    except TypeError:
        methods = (getattr(model, name, None) for name in ("predict_proba", "decision_function", "predict"))
        explainer = shap.Explainer(next(filter(None, methods)), background, seed=0)
    values = np.abs(explainer(features).values)
    means = values.mean(axis=tuple(axis for axis in range(values.ndim) if axis != 1))
    title = f"SHAP importance: mean absolute value, {type(explainer).__name__}, {len(features):,} rows"
    yield _importance(title, features.columns, means.tolist())


def _sampled_rows(generator: np.random.Generator, rows: int, size: int) -> Any:
    """Return the sorted positions of at most `size` rows."""
    return np.arange(rows) if rows <= size else np.sort(generator.choice(rows, size, replace=False))


def _importance(title: str, names: Iterable[Any], values: Iterable[float]) -> Plot:
    bars = sorted(zip(map(str, names), values, strict=True), key=lambda bar: -bar[1])
    return Plot(title=title, bars=tuple(bars[:_MAX_FEATURES]))


def _confusion(found: Predictions) -> Plot:
    width = len(found.labels)
    counts = np.bincount(found.true * width + found.predicted, minlength=width * width).reshape(width, width)
    shown = counts[:_MAX_CLASSES, :_MAX_CLASSES].tolist()
    more = f", the first {_MAX_CLASSES} of {width} classes" if width > _MAX_CLASSES else ""
    labels = tuple(str(label) for label in found.labels[:_MAX_CLASSES])
    return Plot(title=f"Confusion matrix{more}", labels=labels, counts=tuple(tuple(row) for row in shown))


def _score_plots(found: Predictions) -> Iterator[Plot]:
    """Yield ROC and precision-recall curves, and calibration curves, for each class against the others."""
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import precision_recall_curve, roc_curve

    roc, precision, calibration = [], [], []
    for name, positive, scores in _sides(found):
        false_rate, true_rate, _ = roc_curve(positive, scores)
        roc.append(_curve(name, false_rate, true_rate))
        precise, recall, _ = precision_recall_curve(positive, scores)
        precision.append(_curve(name, recall, precise))
        if found.are_probabilities:
            share, mean = calibration_curve(positive, scores, n_bins=_BINS, strategy="quantile")
            calibration.append(_curve(name, mean, share))
    axes = ("false positive rate", "true positive rate")
    yield Plot(title="ROC", curves=tuple(roc), axis_max=1.0, x_title=axes[0], y_title=axes[1])
    yield Plot(title="Precision and recall", curves=tuple(precision), x_title="recall", y_title="precision")
    if calibration:
        axes = ("predicted probability", "share of the class")
        yield Plot(title="Calibration", curves=tuple(calibration), axis_max=1.0, x_title=axes[0], y_title=axes[1])


def _sides(found: Predictions) -> Iterator[tuple[str, Any, Any]]:
    """Yield each class with which rows have it and their scores; of two classes the second."""
    if found.scores.ndim == 1:
        yield str(found.labels[1]), found.true == 1, found.scores
        return
    for at, label in enumerate(found.labels[:8]):
        positive = found.true == at
        if 0 < positive.sum() < len(positive):
            yield str(label), positive, found.scores[:, at]


def _residuals(found: Predictions) -> Iterator[Plot]:
    residuals = found.true - found.predicted
    points = Curve("", *_picked(found.predicted, residuals), markers_only=True)
    yield Plot(title="Residuals", curves=(points,), x_title="predicted", y_title="true - predicted")


def _curve(name: str, x: Any, y: Any) -> Curve:
    return Curve(name, *_picked(x, y))


def _picked(x: Sequence[float], y: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return at most 300 points at equal distances in the order, with the first and the last."""
    rows = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MAX_POINTS)).round().astype(int))
    picked = (np.asarray(side)[rows].astype(float).tolist() for side in (x, y))
    first, second = (tuple(side) for side in picked)
    return first, second
