"""Metrics of predictions, by scikit-learn, and their paired bootstrap, which is vectorised over the resamples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from airflow_zen.errors import ValidationDefinitionError

CLASSIFICATION = ("binary", "multiclass")
_CHUNK_CELLS = 4_000_000
"""The number of rows times resamples that are in memory at once."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model predicted for the rows of a table.

    For classes, `true` and `predicted` are positions in `labels`. `scores`: of shape (rows,) for two classes, those of
    the second, and for a ranking; of shape (rows, classes) for more classes; None if the model gives none. `groups`:
    the number of each row's group, for a ranking whose groups are ranked apart.
    """

    task: str
    true: Any
    predicted: Any
    scores: Any = None
    labels: Any = ()
    are_probabilities: bool = True
    groups: Any = None

    def take(self, rows: Any) -> Predictions:
        """Return the predictions of rows, by position or as a mask."""
        scores = None if self.scores is None else self.scores[rows]
        groups = None if self.groups is None else self.groups[rows]
        return replace(self, true=self.true[rows], predicted=self.predicted[rows], scores=scores, groups=groups)

    def decoded(self, side: Any) -> Any:
        """Return `true` or `predicted` as the values of the target."""
        return np.asarray(self.labels)[side] if self.task in CLASSIFICATION else side


@dataclass(frozen=True)
class Metric:
    """A number that says how good predictions are.

    `compute` takes predictions. `resample` takes predictions and the weights of resamples, of shape (resamples, rows),
    and returns a number for each; without it, or where it returns None, `compute` is called for each resample. `needs`
    is `scores` or `probabilities`.
    """

    name: str
    compute: Callable[[Predictions], float]
    lower_is_better: bool = False
    needs: str = ""
    resample: Callable[[Predictions, Any], Any] | None = None

    def value(self, predictions: Predictions) -> float:
        """Return the number; raises `ValueError`, in words, where these predictions do not define it."""
        if need := self.unmet_need(predictions):
            raise ValueError(need)
        found = float(self.compute(predictions))
        if not np.isfinite(found):
            raise ValueError(f"These rows do not define it: it is {found}.")
        return found

    def unmet_need(self, predictions: Predictions) -> str:
        """Return why the model cannot have this metric; empty if it can."""
        if self.needs and predictions.scores is None:
            return "The model has neither predict_proba nor decision_function. Choose metrics of its classes."
        if self.needs == "probabilities" and not predictions.are_probabilities:
            return "The model has no predict_proba: its scores are not probabilities. Choose another metric."
        return ""

    def gain(self, value: Any, baseline: Any) -> Any:
        """Return by how much a value is better than that of the baseline."""
        return baseline - value if self.lower_is_better else value - baseline


def metrics_of(predictions: Predictions, wanted: Sequence[Any] | None) -> list[Metric]:
    """Return the metrics of a task by name, or of functions; by default the usual ones of what the model predicts.

    Raises `ValidationDefinitionError` for a name that is no metric of the task.
    """
    task = predictions.task
    known = _METRICS[task]()
    if wanted is None:
        usual = [known[name] for name in _DEFAULTS[task]]
        return [metric for metric in usual if not metric.unmet_need(predictions)]
    if not wanted:
        raise ValidationDefinitionError(
            "There is nothing to measure: metrics= is empty. Leave it out for the usual ones."
        )
    found = []
    for each in wanted:
        if callable(each):
            found.append(_user_metric(each))
        elif each in known:
            found.append(known[each])
        else:
            names = ", ".join(known)
            raise ValidationDefinitionError(
                f"{each!r} is no metric of a {task} model; there are {names}. Choose one of these, or give a function "
                "of the true and the predicted values."
            )
    return found


def paired_gains(
    metrics: Sequence[Metric], ours: Predictions, theirs: Predictions, resamples: int, seed: int
) -> dict[str, Any]:
    """Return by how much each metric is better than the baseline's in each resample of the rows, drawn for both alike.

    The rows of resample b are `numpy.random.default_rng(seed).integers(0, n, size=n)` at its call b; the groups of a
    ranking are drawn like that instead of its rows. A resample that does not define a metric is NaN.
    """
    parts: dict[str, list[Any]] = {metric.name: [] for metric in metrics}
    units = np.arange(len(ours.true)) if ours.groups is None else np.unique(ours.groups, return_inverse=True)[1]
    step = max(1, _CHUNK_CELLS // len(units))
    for counts in _resampled_counts(int(units.max()) + 1, resamples, step, seed):
        weights = counts[:, units]
        for metric in metrics:
            values = (_resampled(metric, each, weights) for each in (ours, theirs))
            parts[metric.name].append(metric.gain(*values))
    return {name: np.concatenate(found) for name, found in parts.items()}


def _resampled_counts(size: int, resamples: int, step: int, seed: int) -> Iterator[Any]:
    """Yield how often each row, or group, is drawn in each of the next `step` resamples."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, step):
        drawn = (generator.integers(0, size, size=size) for _ in range(min(step, resamples - start)))
        yield np.stack([np.bincount(each, minlength=size) for each in drawn]).astype(float)


def _resampled(metric: Metric, predictions: Predictions, weights: Any) -> Any:
    found = metric.resample(predictions, weights) if metric.resample else None
    if found is not None:
        return found
    rows = np.arange(len(predictions.true))
    return np.array([_value_or_nan(metric, predictions.take(np.repeat(rows, each.astype(int)))) for each in weights])


def _value_or_nan(metric: Metric, predictions: Predictions) -> float:
    try:
        return metric.value(predictions)
    except Exception:  # noqa: BLE001 - a metric of a user raises anything
        return float("nan")


def _user_metric(function: Any) -> Metric:
    def compute(found: Predictions) -> float:
        return float(function(found.decoded(found.true), found.decoded(found.predicted)))

    return Metric(str(getattr(function, "__name__", type(function).__name__)), compute)


def _mean(loss: Callable[[Predictions], Any], root: bool = False) -> Callable[[Predictions, Any], Any]:
    """Return the resampling of a metric that is the mean of a number of each row, or its square root."""

    def resample(found: Predictions, weights: Any) -> Any:
        mean = weights @ loss(found) / weights.sum(axis=1)
        return np.sqrt(mean) if root else mean

    return resample


def _regression() -> dict[str, Metric]:
    from sklearn import metrics as sk

    def metric(name: str, function: Any, lower: bool = True, resample: Any = None) -> Metric:
        return Metric(name, lambda found: function(found.true, found.predicted), lower, "", resample)

    def error(found: Predictions) -> Any:
        return found.true - found.predicted

    return _by_name(
        metric("mae", sk.mean_absolute_error, resample=_mean(lambda found: np.abs(error(found)))),
        metric("rmse", sk.root_mean_squared_error, resample=_mean(lambda found: error(found) ** 2, root=True)),
        metric("r2", sk.r2_score, lower=False, resample=_resampled_r2),
        metric("median_absolute_error", sk.median_absolute_error),
    )


def _resampled_r2(found: Predictions, weights: Any) -> Any:
    centered, total = found.true - found.true.mean(), weights.sum(axis=1)
    spread = weights @ centered**2 - (weights @ centered) ** 2 / total
    return 1 - _divide(weights @ (found.true - found.predicted) ** 2, spread, np.nan)


def _binary() -> dict[str, Metric]:
    from sklearn import metrics as sk

    def of_scores(name: str, function: Any, needs: str, lower: bool, resample: Any) -> Metric:
        return Metric(name, lambda found: function(found.true, found.scores), lower, needs, resample)

    def of_classes(name: str, function: Any, resample: Any) -> Metric:
        call = lambda found: function(found.true, found.predicted, zero_division=0)  # noqa: E731
        return Metric(name, call, False, "", resample)

    return _by_name(
        _roc_auc_of_scores(),
        _average_precision_of_scores(),
        *_of_all_classes(),
        of_classes("precision", sk.precision_score, _of_counts(lambda counts: _ratio(counts, axis=1)[:, 1])),
        of_classes("recall", sk.recall_score, _of_counts(lambda counts: _ratio(counts, axis=2)[:, 1])),
        of_classes("f1", sk.f1_score, _of_counts(lambda counts: _f1(counts)[:, 1])),
        of_scores("brier", sk.brier_score_loss, "probabilities", True, _mean(lambda f: (f.scores - f.true) ** 2)),
    )


def _multiclass() -> dict[str, Metric]:
    from sklearn import metrics as sk

    def averaged(name: str, function: Any, resample: Any) -> Metric:
        def compute(found: Predictions) -> float:
            labels = list(range(len(found.labels)))
            return float(function(found.true, found.predicted, labels=labels, average="macro", zero_division=0))

        return Metric(name, compute, False, "", resample)

    def roc_auc(found: Predictions) -> float:
        labels = list(range(len(found.labels)))
        return float(sk.roc_auc_score(found.true, found.scores, multi_class="ovr", labels=labels))

    return _by_name(
        *_of_all_classes(),
        averaged("precision_macro", sk.precision_score, _of_counts(lambda counts: _ratio(counts, axis=1).mean(axis=1))),
        averaged("recall_macro", sk.recall_score, _of_counts(lambda counts: _ratio(counts, axis=2).mean(axis=1))),
        averaged("f1_macro", sk.f1_score, _of_counts(lambda counts: _f1(counts).mean(axis=1))),
        Metric("roc_auc", roc_auc, False, "probabilities"),
    )


def _of_all_classes() -> list[Metric]:
    """Return the metrics that two and more classes have in common."""
    from sklearn import metrics as sk

    def log_loss(found: Predictions) -> float:
        return float(sk.log_loss(found.true, found.scores, labels=list(range(len(found.labels)))))

    def balanced(counts: Any) -> Any:
        present = counts.sum(axis=2) > 0
        return (_ratio(counts, axis=2) * present).sum(axis=1) / present.sum(axis=1)

    hits = _mean(lambda found: (found.true == found.predicted).astype(float))
    return [
        Metric("accuracy", lambda found: sk.accuracy_score(found.true, found.predicted), resample=hits),
        Metric(
            "balanced_accuracy",
            lambda found: sk.balanced_accuracy_score(found.true, found.predicted),
            resample=_of_counts(balanced),
        ),
        Metric("log_loss", log_loss, True, "probabilities", _mean(_log_losses)),
    ]


def _log_losses(found: Predictions) -> Any:
    """Return the loss of each row, with probabilities clipped and normalised as scikit-learn does."""
    scores = found.scores if found.scores.ndim == 2 else np.stack([1 - found.scores, found.scores], axis=1)
    scores = np.clip(scores, np.finfo(scores.dtype).eps, 1 - np.finfo(scores.dtype).eps)
    return -np.log(scores[np.arange(len(found.true)), found.true] / scores.sum(axis=1))


def _ranking() -> dict[str, Metric]:
    from sklearn import metrics as sk

    def of_rows(true: Any, scores: Any) -> float:
        return float(sk.ndcg_score([true], [scores]))

    def of_groups(found: Predictions) -> dict[int, float]:
        """Return the value of each group, by the position of its first row; one row has no order."""
        order = np.argsort(found.groups, kind="stable")
        starts = np.flatnonzero(np.diff(found.groups[order], prepend=-1))
        groups = [rows for rows in np.split(order, starts[1:]) if len(rows) > 1]
        return {int(rows[0]): of_rows(found.true[rows], found.scores[rows]) for rows in groups}

    def ndcg(found: Predictions) -> float:
        values = [of_rows(found.true, found.scores)] if found.groups is None else list(of_groups(found).values())
        return float(np.mean(values)) if values else float("nan")

    def resample(found: Predictions, weights: Any) -> Any:
        if found.groups is None:
            return None
        values = of_groups(found)
        drawn = weights[:, list(values)]
        return _divide(drawn @ np.array(list(values.values())), drawn.sum(axis=1), np.nan)

    return _by_name(Metric("ndcg", ndcg, resample=resample), _roc_auc_of_scores(), _average_precision_of_scores())


def _roc_auc_of_scores() -> Metric:
    from sklearn import metrics as sk

    return Metric(
        "roc_auc", lambda found: sk.roc_auc_score(found.true, found.scores), False, "scores", _resampled_roc_auc
    )


def _average_precision_of_scores() -> Metric:
    from sklearn import metrics as sk

    compute = lambda found: sk.average_precision_score(found.true, found.scores)  # noqa: E731
    return Metric("average_precision", compute, False, "scores", _resampled_average_precision)


def _resampled_roc_auc(found: Predictions, weights: Any) -> Any:
    """Return the shares of pairs of a positive and a negative row that the scores order rightly, ties as half."""
    positive, negative = _weights_by_score(found, weights, found.scores)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return _divide((positive * below).sum(axis=1), pairs, np.nan)


def _resampled_average_precision(found: Predictions, weights: Any) -> Any:
    positive, negative = _weights_by_score(found, weights, -found.scores)
    hits = np.cumsum(positive, axis=1)
    precision = _divide(hits, hits + np.cumsum(negative, axis=1), 0.0)
    return _divide((positive * precision).sum(axis=1), positive.sum(axis=1), np.nan)


def _weights_by_score(found: Predictions, weights: Any, scores: Any) -> tuple[Any, Any]:
    """Return the weights of the positive and of the negative rows of each score, in the order of the scores."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)
    ordered, is_positive = weights[:, order], found.true[order] == 1
    sides = (ordered * is_positive, ordered * ~is_positive)
    positive, negative = (np.add.reduceat(side, starts, axis=1) for side in sides)
    return positive, negative


def _of_counts(formula: Callable[[Any], Any]) -> Callable[[Predictions, Any], Any]:
    """Return the resampling of a metric of the confusion counts, of shape (resamples, true, predicted)."""

    def resample(found: Predictions, weights: Any) -> Any:
        width = len(found.labels)
        cells = found.true * width + found.predicted
        order = np.argsort(cells, kind="stable")
        present, starts = np.unique(cells[order], return_index=True)
        counts = np.zeros((len(weights), width * width))
        counts[:, present] = np.add.reduceat(weights[:, order], starts, axis=1)
        return formula(counts.reshape(-1, width, width))

    return resample


def _ratio(counts: Any, axis: int) -> Any:
    """Return the precision (axis 1) or the recall (axis 2) of each class, 0 where it is not defined."""
    return _divide(np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=axis), 0.0)


def _f1(counts: Any) -> Any:
    both = counts.sum(axis=1) + counts.sum(axis=2)
    return _divide(2 * np.diagonal(counts, axis1=1, axis2=2), both, 0.0)


def _divide(numbers: Any, by: Any, otherwise: float) -> Any:
    return np.divide(numbers, by, out=np.full(np.shape(numbers), otherwise), where=by > 0)


def _by_name(*found: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in found}


_METRICS: Mapping[str, Callable[[], dict[str, Metric]]] = {
    "regression": _regression,
    "binary": _binary,
    "multiclass": _multiclass,
    "ranking": _ranking,
}
_DEFAULTS: Mapping[str, Sequence[str]] = {
    "regression": ("rmse", "mae", "r2"),
    "binary": ("roc_auc", "log_loss", "accuracy", "f1", "precision", "recall"),
    "multiclass": ("log_loss", "accuracy", "balanced_accuracy", "f1_macro"),
    "ranking": ("ndcg",),
}
TASKS = tuple(_METRICS)
