"""How well a classifier does, as a value that MLflow shows as a confusion matrix and ROC curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_zen.materializers.base import Materializer


@dataclass(frozen=True, eq=False)
class ClassificationEvaluation:
    """Keep what a classifier said of samples whose class is known.

    `y_true` are the classes as they are, by name or number. `y_score` are probabilities or scores: one column
    for each of `labels`, or one number for each sample, the score of the second of two. `y_pred` are the classes
    that were predicted; where they are not given, those of the greatest score, or of a score of `threshold` and
    more. `labels` are the classes in the order of the columns, such as `model.classes_`; where they are not given,
    those of `y_true` and `y_pred` in order. Arrays, series and lists are kept as they are.
    """

    y_true: Any
    y_score: Any = None
    y_pred: Any = None
    labels: Sequence[Any] | Any = ()
    threshold: float = 0.5


class EvaluationPreview(Materializer):
    """Show a confusion matrix and ROC curves; stored like any dataclass."""

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Draw both, and the numbers for each class."""
        from airflow_zen.materializers.evaluation.preview import preview_evaluation

        return preview_evaluation(value)
