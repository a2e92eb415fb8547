"""The predictions of a model for a table; what cannot be evaluated is a failed check in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from airflow_zen.validation.base import not_empty
from airflow_zen.validation.evaluation_metrics import CLASSIFICATION, Predictions
from airflow_zen.validation.report import MAX_SAMPLED_ROWS, Check, FailingRow


class Unpredictable(Exception):
    """The checks that say why a model cannot be evaluated on a table."""

    def __init__(self, *checks: Check) -> None:
        super().__init__(", ".join(check.title for check in checks))
        self.checks = checks


def predict(model: Any, table: Any, target: str, task: str) -> Predictions:
    """Return the predictions for a pandas frame; `task` is inferred if it is empty.

    The model gets the columns that it names in `feature_names_in_`, else all but the target. Raises `Unpredictable`.
    """
    _check_table(table, target)
    features = features_of(model, table, target)
    task = task or _infer_task(model, table[target])
    if task not in CLASSIFICATION:
        return _of_numbers(model, features, table[target], task)
    return _of_classes(model, features, table[target], task)


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
        raise Unpredictable(_with_sample(check, sample))


def _with_sample(check: Check, sample: tuple[FailingRow, ...]) -> Check:
    from msgspec.structs import replace

    return replace(check, sample=sample)


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
        raise Unpredictable(_with_message(check, message)) from error
    _check_rows("finite_target", str(target.name), ~np.isfinite(true), target.to_frame(), "finite numbers", true)
    scores = _finite(_call(model, "predict", features), features)
    if scores.size != len(true):
        observed = f"{scores.size // len(true)} numbers for each row"
        raise Unpredictable(Check(name="model_predicts", passed=False, observed=observed, expected="one number"))
    if task == "ranking" and (found := _scores(model, features)) is not None and found[0].ndim == 1:
        scores = found[0]
    return Predictions(task, true, scores.ravel(), scores.ravel() if task == "ranking" else None)


def _with_message(check: Check, message: str) -> Check:
    from msgspec.structs import replace

    return replace(check, message=message)


def _of_classes(model: Any, features: Any, target: Any, task: str) -> Predictions:
    true, found = target.to_numpy(), _call(model, "predict", features).ravel()
    if found.dtype.kind == "f":
        _finite(found, features)
    if len(seen := set(true.tolist())) < 2:
        observed = f"only {next(iter(seen))!r}"
        check = Check(name="target_classes", passed=False, column=str(target.name), observed=observed)
        raise Unpredictable(_with_message(check, "Rows of at least 2 classes say how well a model tells them apart."))
    known = getattr(model, "classes_", None)
    labels = np.array(sorted(seen | set(found.tolist()), key=str)) if known is None else np.asarray(known)
    position = {label: at for at, label in enumerate(labels.tolist())}
    codes = np.array([position.get(value, -1) for value in true.tolist()])
    expected = f"classes of the model: {', '.join(map(str, labels.tolist()[:20]))}"
    _check_rows("known_classes", str(target.name), codes < 0, target.to_frame(), expected, true)
    if task == "binary" and len(labels) > 2:
        check = Check(name="target_classes", passed=False, column=str(target.name), observed=f"{len(labels)} classes")
        raise Unpredictable(_with_message(check, "Two classes are binary. Write task='multiclass'."))
    predicted = np.array([position.get(value, -1) for value in found.tolist()])
    _check_rows("known_predictions", "", predicted < 0, features, expected, found)
    scores, are_probabilities = _scores(model, features) or (None, False)
    return Predictions(task, codes, predicted, scores, labels, are_probabilities)


def _scores(model: Any, features: Any) -> tuple[Any, bool] | None:
    """Return the probabilities or the scores of a model, and which of them it gives; None if it gives none."""
    for method in ("predict_proba", "decision_function"):
        if callable(getattr(model, method, None)):
            found = _finite(_call(model, method, features), features)
            return (found[:, 1] if found.ndim == 2 and found.shape[1] == 2 else found), method == "predict_proba"
    return None
