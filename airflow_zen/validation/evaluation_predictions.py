"""The predictions of a model for a table; what cannot be evaluated is a failed check in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from msgspec import structs

from airflow_zen.validation.base import not_empty
from airflow_zen.validation.evaluation_metrics import CLASSIFICATION, Predictions
from airflow_zen.validation.report import MAX_SAMPLED_ROWS, Check, FailingRow


class Unpredictable(Exception):
    """The checks that say why a model cannot be evaluated on a table."""

    def __init__(self, *checks: Check) -> None:
        super().__init__(", ".join(check.title for check in checks))
        self.checks = checks


def sampled_frame(table: Any, sample: int) -> tuple[Any, int | None]:
    """Return a frame of at most `sample` random rows of a table, in their order, and the number of rows of the table.

    The table is a frame, or an iterator of frames, of which at most twice the sample is in memory; 0 is no limit. The
    rows with the smallest of random keys, drawn with seed 0, are a sample without replacement. Another value is
    returned as it is.
    """
    if not hasattr(table, "columns") and not isinstance(table, Iterator):
        return table, None
    generator, rows = np.random.default_rng(0), 0
    parts: list[Any] = []
    keys = np.zeros(0)
    for part in table if isinstance(table, Iterator) else [table]:
        rows += len(part)
        parts, keys = [*parts, part], np.concatenate([keys, generator.random(len(part))])
        if 0 < 2 * sample < len(keys):
            parts, keys = _smallest(parts, keys, sample)
    if 0 < sample < len(keys):
        parts, keys = _smallest(parts, keys, sample)
    return _concatenated(parts), rows


def _smallest(parts: list[Any], keys: Any, count: int) -> tuple[list[Any], Any]:
    kept = np.sort(np.argpartition(keys, count)[:count])
    return [_concatenated(parts).iloc[kept]], keys[kept]


def _concatenated(parts: list[Any]) -> Any:
    import pandas as pd

    return parts[0] if len(parts) == 1 else pd.concat(parts) if parts else pd.DataFrame()


def predict(model: Any, table: Any, target: str, task: str, groups: str = "") -> Predictions:
    """Return the predictions for a pandas frame; `task` is inferred if it is empty.

    The model gets the columns that it names in `feature_names_in_`, else all but the target. `groups` is the column of
    a ranking whose values are ranked apart. Raises `Unpredictable`.
    """
    _check_table(table, target)
    if groups:
        return replace(predict(model, table, target, task), groups=_group_codes(table, groups))
    features = features_of(model, table, target)
    task = task or _infer_task(model, table[target])
    if task not in CLASSIFICATION:
        return _of_numbers(model, features, table[target], task)
    return _of_classes(model, features, table[target], task)


def _group_codes(table: Any, column: str) -> Any:
    import pandas as pd

    if column not in table.columns:
        raise Unpredictable(_missing_column(column, table, "its values are the groups of the ranking"))
    return pd.factorize(table[column], use_na_sentinel=False)[0]


def features_of(model: Any, table: Any, target: str) -> Any:
    """Return the columns that the model takes."""
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        return table.drop(columns=[target])
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise Unpredictable(*(_missing_column(str(name), table, "the model was trained on it") for name in missing))
    return table[list(names)]


def _check_table(table: Any, target: str) -> None:
    if not hasattr(table, "columns"):
        message = "A model is evaluated on a table of pandas. Return one from the step."
        raise Unpredictable(Check(name="is_table", passed=False, observed=type(table).__name__, message=message))
    if not table.columns.is_unique:
        names = ", ".join(sorted({str(name) for name in table.columns[table.columns.duplicated()]}))
        raise Unpredictable(Check(name="unique_columns", passed=False, observed=f"several columns {names}"))
    if not len(table):
        raise Unpredictable(not_empty(0))
    if target not in table.columns:
        raise Unpredictable(_missing_column(target, table, "it is the target"))
    _check_rows("not_null", target, table[target].isna().to_numpy(), table, "a target in each row")
    try:
        table[target].nunique()
    except TypeError as error:
        check = Check(name="target_type", passed=False, column=target, observed="nested values", message=str(error))
        raise Unpredictable(check) from error


def _missing_column(name: str, table: Any, why: str) -> Check:
    expected = f"one of {', '.join(map(str, table.columns))}"
    return Check(name="column_exists", passed=False, column=name, observed="missing", expected=expected, message=why)


def _check_rows(name: str, column: str, is_wrong: Any, table: Any, expected: str, values: Any = None) -> None:
    """Raise `Unpredictable` if a row is wrong."""
    wrong = np.flatnonzero(is_wrong)
    if len(wrong):
        values = table[column].to_numpy() if values is None else values
        sample = tuple(FailingRow(str(table.index[at]), str(values[at])) for at in wrong[:MAX_SAMPLED_ROWS])
        observed = f"{len(wrong)} of {len(table)} rows"
        check = Check(name=name, passed=False, column=column, observed=observed, expected=expected, failing=len(wrong))
        raise Unpredictable(structs.replace(check, sample=sample))


def _infer_task(model: Any, target: Any) -> str:
    is_number = target.dtype.kind in "iuf"
    if hasattr(model, "predict_proba") or hasattr(model, "classes_") or not is_number:
        classes = getattr(model, "classes_", None)
        return "binary" if len(target.unique() if classes is None else classes) <= 2 else "multiclass"
    return "regression"


def _call(model: Any, method: str, features: Any) -> Any:
    """Return what a method of the model gives for each row, as an array."""
    function = getattr(model, method, None)
    if not callable(function):
        message = f"{type(model).__name__} has no method {method}. Evaluate a model of scikit-learn's interface."
        raise Unpredictable(Check(name="model_predicts", passed=False, observed=f"no {method}", message=message))
    try:
        found = np.asarray(function(features))
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        check = Check(name="model_predicts", passed=False, observed=f"an error of {method}", message=message)
        raise Unpredictable(check) from error
    if len(found) != len(features):
        observed, expected = f"{len(found)} predictions", f"{len(features)}, one for each row"
        raise Unpredictable(Check(name="model_predicts", passed=False, observed=observed, expected=expected))
    return found


def _finite(found: Any, features: Any) -> Any:
    """Return predictions as numbers; raise `Unpredictable` for those that are none, NaN or infinite."""
    try:
        numbers = found.astype(float)
    except (TypeError, ValueError) as error:
        check = Check(name="finite_predictions", passed=False, observed="no numbers", message=str(error))
        raise Unpredictable(check) from error
    wrong = ~np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1)
    _check_rows("finite_predictions", "", wrong, features, "finite numbers", found)
    return numbers


def _of_numbers(model: Any, features: Any, target: Any, task: str) -> Predictions:
    try:
        true = target.to_numpy(dtype=float)
    except (TypeError, ValueError) as error:
        message = f"The target of a {task} is numbers: {error}"
        check = Check(name="target_type", passed=False, column=str(target.name), observed=str(target.dtype))
        raise Unpredictable(structs.replace(check, message=message)) from error
    _check_rows("finite_target", str(target.name), ~np.isfinite(true), target.to_frame(), "finite numbers", true)
    scores = _finite(_call(model, "predict", features), features)
    if scores.size != len(true):
        observed = f"{scores.size // len(true)} numbers for each row"
        raise Unpredictable(Check(name="model_predicts", passed=False, observed=observed, expected="one number"))
    if task == "ranking" and (found := _scores(model, features)) is not None and found[0].ndim == 1:
        scores = found[0]
    return Predictions(task, true, scores.ravel(), scores.ravel() if task == "ranking" else None)


def _of_classes(model: Any, features: Any, target: Any, task: str) -> Predictions:
    true, found = target.to_numpy(), _call(model, "predict", features).ravel()
    if found.dtype.kind == "f":
        _finite(found, features)
    if len(seen := set(true.tolist())) < 2:
        observed = f"only {next(iter(seen))!r}"
        message = "Rows of at least 2 classes say how well a model tells them apart."
        raise Unpredictable(_wrong_classes(target, observed, message))
    known = getattr(model, "classes_", None)
    labels = np.array(sorted(seen | set(found.tolist()), key=str)) if known is None else np.asarray(known)
    position = {label: at for at, label in enumerate(labels.tolist())}
    codes = np.array([position.get(value, -1) for value in true.tolist()])
    expected = f"classes of the model: {', '.join(map(str, labels.tolist()[:20]))}"
    _check_rows("known_classes", str(target.name), codes < 0, target.to_frame(), expected, true)
    if task == "binary" and len(labels) > 2:
        observed, message = f"{len(labels)} classes", "Two classes are binary. Write task='multiclass'."
        raise Unpredictable(_wrong_classes(target, observed, message))
    predicted = np.array([position.get(value, -1) for value in found.tolist()])
    _check_rows("known_predictions", "", predicted < 0, features, expected, found)
    scores, are_probabilities = _scores(model, features) or (None, False)
    return Predictions(task, codes, predicted, scores, labels, are_probabilities)


def _wrong_classes(target: Any, observed: str, message: str) -> Check:
    return Check(name="target_classes", passed=False, column=str(target.name), observed=observed, message=message)


def _scores(model: Any, features: Any) -> tuple[Any, bool] | None:
    """Return the probabilities or the scores of a model, and which of them it gives; None if it gives none."""
    for method in ("predict_proba", "decision_function"):
        if callable(getattr(model, method, None)):
            found = _finite(_call(model, method, features), features)
            return (found[:, 1] if found.ndim == 2 and found.shape[1] == 2 else found), method == "predict_proba"
    return None
