"""The evaluation of a classifier, as a value that MLflow shows as a confusion matrix and ROC curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from airflow_zen.markup import escape_html
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.previews.html import (
    MAX_LINES,
    PREVIEW_HTML,
    Line,
    Markup,
    downsample,
    heading,
    hidden_note,
    html_page,
    line_chart,
    svg,
    truncate,
)
from airflow_zen.materializers.previews.tables import plain_table

_MAX_CLASSES = 20
_CELL_SIZE, _MARGIN_LEFT, _MARGIN_TOP = 44, 150, 28


@dataclass(frozen=True, eq=False)
class ClassificationEvaluation:
    """The predictions of a classifier for samples of known class.

    `y_true` are the classes, by name or number. `y_score` are probabilities or scores: one column for each of `labels`,
    or one number for each sample, the score of the second of two classes. `y_pred` are the predicted classes; by
    default those of the greatest score, or of a score of at least `threshold`. `labels` are the classes in the order of
    the columns, such as `model.classes_`; by default those of `y_true` and `y_pred`, sorted. Arrays, series and lists
    are kept as they are.
    """

    y_true: Any
    y_score: Any = None
    y_pred: Any = None
    labels: Sequence[Any] | Any = ()
    threshold: float = 0.5


class EvaluationPreview(Materializer):
    """Show a confusion matrix and ROC curves; the value is stored like any dataclass."""

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Draw both, and a table of each class; raises `ValueError` for predictions and classes of unequal number."""
        import numpy as np

        true, scores = np.asarray(value.y_true).ravel(), None if value.y_score is None else np.asarray(value.y_score)
        given = None if value.y_pred is None else np.asarray(value.y_pred).ravel()
        seen = true if given is None else np.concatenate([true, given])
        classes = np.asarray(value.labels) if len(value.labels) else np.unique(seen)
        labels = classes.tolist()
        predicted = given if given is not None else _predicted_classes(classes, scores, value.threshold)
        if predicted is not None and len(predicted) != len(true):
            raise ValueError(f"y_true has {len(true)} samples, and there are {len(predicted)} predictions.")
        sections = [*_matrix_sections(true, predicted, labels), *_curve_sections(true, scores, labels)]
        subtitle = f"{len(true)} samples of {len(labels)} classes"
        return {PREVIEW_HTML: html_page("Classification", subtitle, sections)}


def _predicted_classes(classes: Any, scores: Any, threshold: float) -> Any:
    """Return the class that the scores of each sample predict; None without scores that match the classes."""
    if scores is None:
        return None
    if scores.ndim == 2 and scores.shape[1] == len(classes):
        return classes[scores.argmax(axis=1)]
    return classes[(scores.ravel() >= threshold).astype(int)] if len(classes) == 2 else None


def _matrix_sections(true: Any, predicted: Any, labels: list[Any]) -> Iterator[Markup]:
    if predicted is None:
        return
    counts = _confusion_counts(true, predicted, labels)
    yield heading(f"Confusion matrix · accuracy {counts.trace() / max(1, len(true)):.4f}")
    yield confusion_matrix_svg(counts[:_MAX_CLASSES, :_MAX_CLASSES].tolist(), labels[:_MAX_CLASSES])
    yield from hidden_note(len(labels) - _MAX_CLASSES, "class", "classes")
    hits, predictions, samples = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    # Each count of hits is 0 where its divisor would be.
    precision, recall = hits / predictions.clip(1), hits / samples.clip(1)
    f1 = 2 * hits / (predictions + samples).clip(1)
    rows = zip(map(str, labels), precision.tolist(), recall.tolist(), f1.tolist(), samples.tolist(), strict=True)
    yield plain_table(["class", "precision", "recall", "F1", "samples"], islice(rows, _MAX_CLASSES))


def _confusion_counts(true: Any, predicted: Any, labels: list[Any]) -> Any:
    """Count samples by true class (row) and predicted class (column); classes that are not labels are not counted."""
    import numpy as np

    position = {label: at for at, label in enumerate(labels)}
    rows, columns = (np.array([position.get(item, -1) for item in side.tolist()], int) for side in (true, predicted))
    known, width = (rows >= 0) & (columns >= 0), len(labels)
    return np.bincount(rows[known] * width + columns[known], minlength=width * width).reshape(width, width)


def confusion_matrix_svg(counts: list[list[int]], labels: list[Any]) -> Markup:
    """Draw counts by true class (row) and predicted class (column)."""
    most = max((count for row in counts for count in row), default=0) or 1
    bottom = _MARGIN_TOP + len(labels) * _CELL_SIZE
    parts = [f'<text x="{_MARGIN_LEFT}" y="12">columns: predicted, rows: true</text>']
    for at, label in enumerate(labels):
        y, x = _MARGIN_TOP + at * _CELL_SIZE + _CELL_SIZE // 2 + 4, _MARGIN_LEFT + at * _CELL_SIZE + _CELL_SIZE // 2
        name, short_name = (escape_html(truncate(str(label), length)) for length in (24, 7))
        parts.append(f'<text x="{_MARGIN_LEFT - 6}" y="{y}" text-anchor="end">{name}</text>')
        parts.append(f'<text transform="translate({x} {bottom + 14})" text-anchor="middle">{short_name}</text>')
        parts += [_cell_svg(count, at, column, count / most) for column, count in enumerate(counts[at])]
    return svg(_MARGIN_LEFT + max(4, len(labels)) * _CELL_SIZE + 10, bottom + 40, *parts)


def _cell_svg(count: int, row: int, column: int, shade: float) -> str:
    x, y = _MARGIN_LEFT + column * _CELL_SIZE, _MARGIN_TOP + row * _CELL_SIZE
    ink = ' style="fill:#fff"' if shade > 0.55 else ""
    return (
        f'<rect x="{x}" y="{y}" width="{_CELL_SIZE - 1}" height="{_CELL_SIZE - 1}" fill="#2b62a8" '
        f'fill-opacity="{shade:.3f}" stroke="currentColor" stroke-opacity=".15"/><text x="{x + _CELL_SIZE // 2}" y="{y + _CELL_SIZE // 2 + 4}" '
        f'text-anchor="middle"{ink}>{count}</text>'
    )


def _curve_sections(true: Any, scores: Any, labels: list[Any]) -> Iterator[Markup]:
    curves = [] if scores is None else [downsample(curve) for curve in _roc_curves(true, scores, labels)]
    if curves:
        yield heading("ROC curve" if len(curves) == 1 else "ROC curves, each class against all others")
        yield line_chart(curves, "false positive rate", "true positive rate", diagonal=True, axis_max=1.0)
        yield from hidden_note(len(labels) - MAX_LINES, "class", "classes")


def _roc_curves(true: Any, scores: Any, labels: list[Any]) -> Iterator[Line]:
    if len(labels) == 2:
        column = scores[:, 1] if scores.ndim == 2 and scores.shape[1] == 2 else scores.ravel()
        yield from _roc_curve(true == labels[1], column, str(labels[1]))
    elif scores.ndim == 2 and scores.shape[1] == len(labels):
        for at, label in enumerate(labels[:MAX_LINES]):
            yield from _roc_curve(true == label, scores[:, at], str(label))


def _roc_curve(positive: Any, scores: Any, name: str) -> Iterator[Line]:
    """Yield the rates at every threshold, named by the area below them (trapezoidal rule, Fawcett 2006).

    Nothing where all samples are of one class, or their number is not that of the scores.
    """
    import numpy as np

    total = int(positive.sum())
    if len(scores) != len(positive) or total in {0, len(positive)}:
        return
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits = np.cumsum(positive[order])[ends]
    true_rate = np.concatenate([[0.0], hits / total])
    false_rate = np.concatenate([[0.0], (ends + 1 - hits) / (len(positive) - total)])
    area = float(((true_rate[1:] + true_rate[:-1]) / 2 * np.diff(false_rate)).sum())
    yield Line(f"{truncate(name, 20)} · area {area:.4f}", false_rate.tolist(), true_rate.tolist())
