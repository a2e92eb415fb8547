"""The predictions of a model for a table, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import InputError
from airflow_zen.lineage.mlflow.datasets import is_mlflow_model
from airflow_zen.materializers.base import StoredBatches
from airflow_zen.model_files import MLMODEL_FILE

if TYPE_CHECKING:
    import pandas as pd

    from airflow_zen.artifacts.ref import ArtifactRef

    PredictMethod = str | Callable[[Any, pd.DataFrame], Any]

BATCH_ROWS = 65_536
PREDICTION = "prediction"


def predict_batches(
    model: Any,
    table: Iterator[pd.DataFrame],
    keys: Sequence[str] = (),
    features: Sequence[str] | None = None,
    method: PredictMethod = "predict",
    batch_rows: int = BATCH_ROWS,
    part: tuple[int, int] | None = None,
) -> Iterator[pd.DataFrame]:
    """Yield the predictions for each batch of a table, with its row labels, and the columns `keys` of the table.

    The model gets the columns `features`, by default those of its `feature_names_in_`, else all but the keys. `method`
    is the name of a method of the model, or a function of the model and a frame. One prediction for each row is the
    column `prediction`; several have the names of their columns, `prediction_0`, `prediction_1`, …, or of the classes,
    `probability_<class>`. `part` is the first row and the row after the last to predict, None for all. Raises
    `InputError` for missing columns, and for a model that does not predict one value or row for each row.
    """
    import pandas as pd

    (begin, end), first, count = part or (0, None), None, 0
    for frame in _slices(table, begin, end, batch_rows):
        # A slice would keep the memory of the whole batch.
        first = frame.iloc[:0].copy() if first is None else first
        if len(frame):
            count += len(frame)
            yield predict_frame(model, frame, keys, features, method)
    if not count:
        if first is None:
            raise InputError(
                "The table has no batch, so that its columns are not known. Return an empty table with columns."
            )
        yield first[list(keys)].assign(**{PREDICTION: pd.Series(dtype="float64")})


def predict_flavor(
    model: Path,
    table: Iterator[pd.DataFrame],
    keys: Sequence[str] = (),
    features: Sequence[str] | None = None,
    batch_rows: int = BATCH_ROWS,
    part: tuple[int, int] | None = None,
) -> Iterator[pd.DataFrame]:
    """Yield what MLflow's `pyfunc` flavor of a model predicts; `model` is its MLflow Model directory.

    The other arguments are those of `predict_batches`. Raises `InputError` for a model without that flavor.
    """
    return predict_batches(_load_flavor(model), table, keys, features, batch_rows=batch_rows, part=part)


def needs_flavor(ref: ArtifactRef) -> bool:
    """Whether a model is an MLflow Model whose own class does not predict a frame: XGBoost's booster, ONNX, any flavor."""
    is_booster = ref.encoding.startswith("xgboost.") and ref.type.endswith(".Booster")
    return is_mlflow_model(ref) and (is_booster or ref.encoding.startswith(("onnx.", "directory.")))


def concatenate(parts: list[Iterator[pd.DataFrame]]) -> Iterator[pd.DataFrame]:
    """Yield the batches of several tables as those of one."""
    for part in parts:
        yield from part


def predict_frame(
    model: Any,
    frame: pd.DataFrame,
    keys: Sequence[str] = (),
    features: Sequence[str] | None = None,
    method: PredictMethod = "predict",
) -> pd.DataFrame:
    """Return the predictions for one frame; the arguments are those of `predict_batches`."""
    import pandas as pd

    _require_columns(frame, keys, "keys")
    taken = _features(model, frame, keys, features)
    found = _call(model, method, taken)
    columns = _columns(model, method, found, len(frame))
    columns.index = frame.index
    kept = frame[list(keys)]
    if clash := [name for name in columns.columns if name in kept.columns]:
        raise InputError(f"keys={list(keys)!r} has {clash[0]!r}, which is a column of the predictions. Rename the key.")
    return pd.concat([kept, columns], axis="columns") if keys else columns


def _load_flavor(directory: Path) -> Any:
    if "python_function:" not in (directory / MLMODEL_FILE).read_text(encoding="utf-8"):
        raise InputError(
            "This MLflow Model has no flavor python_function, with which MLflow predicts. Write method=function, with a "
            "function of the model and a frame of pandas."
        )
    import mlflow.pyfunc

    model: Any = mlflow.pyfunc.load_model(str(directory))
    # MLflow itself takes the columns of a signature.
    with suppress(NotImplementedError):
        raw = model.get_raw_model()
        if hasattr(raw, "get_inputs") and len(raw.get_inputs()) == 1:
            # Of a frame, MLflow returns what an ONNX model predicts without its shape.
            return SimpleNamespace(predict=lambda frame: model.predict(frame.to_numpy()))
        known = (getattr(raw, name, None) for name in ("feature_names_in_", "feature_names"))
        model.feature_names_in_ = next((names for names in known if names is not None), None)
    return model


def _slices(table: Iterator[pd.DataFrame], begin: int, end: int | None, size: int) -> Iterator[pd.DataFrame]:
    """Yield the rows from `begin` to `end` in frames of at most `size` rows; an empty frame where there are none.

    Batches before `begin` are not read where the table can leave them out.
    """
    at = table.skip_to(begin) if isinstance(table, StoredBatches) else 0
    for frame in table:
        start, stop = max(begin - at, 0), len(frame) if end is None else min(end - at, len(frame))
        for low in range(start, max(stop, start), size):
            yield frame.iloc[low : min(low + size, stop)]
        if start >= stop:
            yield frame.iloc[:0]
        at += len(frame)
        # The next batch takes the memory of this one.
        del frame
        if end is not None and at >= end:
            return


def _features(model: Any, frame: pd.DataFrame, keys: Sequence[str], features: Sequence[str] | None) -> pd.DataFrame:
    names = list(features) if features is not None else getattr(model, "feature_names_in_", None)
    if names is None:
        return frame.drop(columns=list(keys))
    _require_columns(frame, list(names), "features" if features is not None else "the model")
    return frame[list(names)]


def _require_columns(frame: pd.DataFrame, names: Sequence[str], where: str) -> None:
    if missing := [name for name in names if name not in frame.columns]:
        raise InputError(f"The table has no column {missing[0]!r}, of {where}. It has {list(map(str, frame.columns))}.")


def _call(model: Any, method: PredictMethod, taken: pd.DataFrame) -> Any:
    if not isinstance(method, str):
        return method(model, taken)
    function = getattr(model, method, None)
    if not callable(function):
        raise InputError(
            f"{type(model).__name__} has no method {method!r} to predict with. Write method=function, with a function of the "
            "model and a frame of pandas."
        )
    return function(taken)


def _columns(model: Any, method: PredictMethod, found: Any, rows: int) -> pd.DataFrame:
    """Return predictions of any form as a frame, whose index is not yet that of the table."""
    import numpy as np
    import pandas as pd

    if isinstance(found, dict):
        columns = pd.DataFrame(_named_columns(found))
    elif isinstance(found, pd.DataFrame):
        columns = found.copy()
        if isinstance(found.columns, pd.RangeIndex):
            columns.columns = pd.Index(_numbered(found.shape[1]))
    elif isinstance(found, pd.Series):
        columns = found.to_frame(PREDICTION)
    else:
        values = np.asarray(found)
        if values.ndim == 2 and values.shape[1] == 1 and method != "predict_proba":
            values = values[:, 0]
        if values.ndim not in (1, 2):
            raise InputError(f"{type(model).__name__} predicts an array of shape {values.shape}, which is no table.")
        names = [PREDICTION] if values.ndim == 1 else _names(model, method, values.shape[1])
        columns = pd.DataFrame(values.reshape(len(values), -1), columns=names)
    if len(columns) != rows:
        raise InputError(f"{type(model).__name__} predicts {len(columns)} rows for {rows} rows of the table.")
    return columns


def _named_columns(found: dict[str, Any]) -> dict[str, Any]:
    """Return arrays by name as columns; those of an array of several are numbered."""
    import numpy as np

    arrays = {name: np.atleast_1d(array) for name, array in found.items()}
    return {
        name if array.size == len(array) else f"{name}_{at}": column
        for name, array in arrays.items()
        for at, column in enumerate(array.reshape(len(array), -1).T)
    }


def _names(model: Any, method: PredictMethod, count: int) -> list[str]:
    classes = getattr(model, "classes_", None)
    if method == "predict_proba" and classes is not None and len(classes) == count:
        return [f"probability_{label}" for label in classes]
    return _numbered(count)


def _numbered(count: int) -> list[str]:
    return [PREDICTION] if count == 1 else [f"{PREDICTION}_{at}" for at in range(count)]
