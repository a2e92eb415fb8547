"""A confusion matrix and ROC curves, as inline SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from airflow_zen.escape import safe
from airflow_zen.materializers.evaluation import ClassificationEvaluation
from airflow_zen.materializers.previews.lines import MOST_LINES, Line, lines, thinned
from airflow_zen.materializers.previews.page import HTML, Markup, cut_note, heading, page, shortened
from airflow_zen.materializers.previews.tables import plain_table

_MOST_CLASSES = 20
_SIDE, _LEFT, _TOP = 44, 150, 28


def preview(value: ClassificationEvaluation) -> Mapping[str, str]:
    """Show an evaluation; raises `ValueError` where its columns do not have the same length."""
    true, scores = np.asarray(value.y_true).ravel(), None if value.y_score is None else np.asarray(value.y_score)
    labels = _labels(value, true)
    predicted = _predicted(value, labels, scores)
    if predicted is not None and len(predicted) != len(true):
        raise ValueError(f"y_true has {len(true)} samples, and there are {len(predicted)} predictions.")
    subtitle = f"{len(true)} samples of {len(labels)} classes"
    return {HTML: page("Classification", subtitle, _sections(true, predicted, scores, labels))}


def _sections(true: Any, predicted: Any, scores: Any, labels: list[Any]) -> Iterator[Markup]:
    if predicted is not None:
        counts = _counts(true, predicted, labels)
        yield heading(f"Confusion matrix · accuracy {np.trace(counts) / max(1, len(true)):.4f}")
        yield _matrix(counts[:_MOST_CLASSES, :_MOST_CLASSES], labels[:_MOST_CLASSES])
        if len(labels) > _MOST_CLASSES:
            yield cut_note(f"{len(labels) - _MOST_CLASSES} more classes")
        yield plain_table(["class", "precision", "recall", "F1", "samples"], _rates(counts, labels))
    curves = [] if scores is None else [thinned(curve) for curve in _curves(true, scores, labels)]
    if curves:
        yield heading("ROC curve" if len(curves) == 1 else "ROC curves, each class against all others")
        yield lines(curves, "false positive rate", "true positive rate", diagonal=True, within=1.0)
        if len(labels) > MOST_LINES:
            yield cut_note(f"{len(labels) - MOST_LINES} more classes")


def _labels(value: ClassificationEvaluation, true: Any) -> list[Any]:
    if len(value.labels):
        return list(np.asarray(value.labels).tolist())
    seen = true if value.y_pred is None else np.concatenate([true, np.asarray(value.y_pred).ravel()])
    return list(np.unique(seen).tolist())


def _predicted(value: ClassificationEvaluation, labels: list[Any], scores: Any) -> Any:
    if value.y_pred is not None:
        return np.asarray(value.y_pred).ravel()
    if scores is None:
        return None
    if scores.ndim == 2 and scores.shape[1] == len(labels):
        return np.asarray(labels)[scores.argmax(axis=1)]
    return np.asarray(labels)[(scores.ravel() >= value.threshold).astype(int)] if len(labels) == 2 else None


def _counts(true: Any, predicted: Any, labels: list[Any]) -> Any:
    """Count samples by true class (row) and predicted class (column); classes that are no label are not counted."""
    place = {label: at for at, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
    rows = np.array([place.get(item, -1) for item in true.tolist()], dtype=np.int64)
    columns = np.array([place.get(item, -1) for item in predicted.tolist()], dtype=np.int64)
    known = (rows >= 0) & (columns >= 0)
    np.add.at(counts, (rows[known], columns[known]), 1)
    return counts


def _rates(counts: Any, labels: list[Any]) -> Iterator[tuple[Any, ...]]:
    for at, label in enumerate(labels[:_MOST_CLASSES]):
        right, given, asked = counts[at, at], counts[:, at].sum(), counts[at].sum()
        f1 = 2 * right / (given + asked) if given + asked else 0.0
        yield (
            str(label),
            float(right / given) if given else 0.0,
            float(right / asked) if asked else 0.0,
            float(f1),
            asked,
        )


def _curves(true: Any, scores: Any, labels: list[Any]) -> Iterator[Line]:
    if len(labels) == 2:
        column = scores[:, 1] if scores.ndim == 2 and scores.shape[1] == 2 else scores.ravel()
        yield from _curve(true == labels[1], column, str(labels[1]))
    elif scores.ndim == 2 and scores.shape[1] == len(labels):
        for at, label in enumerate(labels[:MOST_LINES]):
            yield from _curve(true == label, scores[:, at], str(label))


def _curve(positive: Any, scores: Any, name: str) -> Iterator[Line]:
    """Give the rates at every threshold, and the area below them, by the trapezoidal rule (Fawcett 2006)."""
    total = int(positive.sum())
    if len(scores) != len(positive) or total in {0, len(positive)}:
        return
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits = np.cumsum(positive[order])[ends]
    true_rate = np.concatenate([[0.0], hits / total])
    false_rate = np.concatenate([[0.0], (ends + 1 - hits) / (len(positive) - total)])
    area = float(((true_rate[1:] + true_rate[:-1]) / 2 * np.diff(false_rate)).sum())
    yield Line(f"{shortened(name, 20)} · area {area:.4f}", false_rate.tolist(), true_rate.tolist())


def _matrix(counts: Any, labels: list[Any]) -> Markup:
    most = max(1, int(counts.max(initial=0)))
    width, height = _LEFT + max(4, len(labels)) * _SIDE + 10, _TOP + len(labels) * _SIDE + 40
    parts = [f'<text x="{_LEFT}" y="12">columns: predicted, rows: true</text>']
    for row, label in enumerate(labels):
        middle = _TOP + row * _SIDE + _SIDE // 2 + 4
        parts.append(f'<text x="{_LEFT - 6}" y="{middle}" text-anchor="end">{safe(shortened(str(label), 24))}</text>')
        place = f"translate({_LEFT + row * _SIDE + _SIDE // 2} {_TOP + len(labels) * _SIDE + 14})"
        parts.append(f'<text transform="{place}" text-anchor="middle">{safe(shortened(str(label), 7))}</text>')
        parts += [_cell(int(count), row, column, most) for column, count in enumerate(counts[row])]
    return Markup(
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">{"".join(parts)}</svg>'
    )


def _cell(count: int, row: int, column: int, most: int) -> str:
    x, y = _LEFT + column * _SIDE, _TOP + row * _SIDE
    shade = count / most
    ink = "#fff" if shade > 0.55 else "#1b2733"
    return (
        f'<rect x="{x}" y="{y}" width="{_SIDE - 1}" height="{_SIDE - 1}" fill="#2b62a8" fill-opacity="{shade:.3f}" stroke="#e3e9ee"/>'
        f'<text x="{x + _SIDE // 2}" y="{y + _SIDE // 2 + 4}" text-anchor="middle" style="fill:{ink}">{count}</text>'
    )
