"""An MLflow Model behind a server: rows of JSON in, predictions of JSON out. It needs mlflow, and not Airflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from mlflow import pyfunc
from mlflow.exceptions import MlflowException
from mlflow.utils.proto_json_utils import cast_df_types_according_to_schema

Rows = Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]]


class BadRows(ValueError):
    """The rows of a request do not fit the model."""


class ServedModel:
    """The model in a directory.

    JSON has one type of number, so rows are cast to the types of the model's signature: MLflow would refuse a whole
    number where it expects a float.
    """

    def __init__(self, path: str) -> None:
        self._model = pyfunc.load_model(path)
        self._schema = self._model.metadata.get_input_schema()
        self._takes_tensors = self._schema is not None and self._schema.is_tensor_spec()

    def predict_rows(self, rows: Rows) -> Any:
        """Return what the model predicts for rows with or without names of columns. Raises `BadRows`."""
        return self._predict(lambda: self._table(rows))

    def predict_columns(self, columns: Mapping[str, np.ndarray]) -> Any:
        """Return what the model predicts for columns, or for the tensors of its signature. Raises `BadRows`."""
        return self._predict(lambda: self._tensors(columns))

    def _predict(self, read: Callable[[], Any]) -> Any:
        """Call the model; as in MLflow's own server, the errors of an unsuitable input are the client's."""
        try:
            return self._model.predict(read())
        except BadRows:
            raise
        except (MlflowException, ValueError, TypeError, KeyError) as error:
            raise BadRows(f"{type(error).__name__}: {error}") from error

    def _table(self, rows: Rows) -> Any:
        if not isinstance(rows, list) or not rows:
            raise BadRows(f"The rows must be a list of at least one row, got {rows!r}.")
        if isinstance(rows[0], Mapping):
            return self._cast(pd.DataFrame(rows))
        if self._schema is None or self._takes_tensors:
            return np.asarray(rows)
        return self._cast(pd.DataFrame(rows, columns=self._schema.input_names()))

    def _tensors(self, columns: Mapping[str, np.ndarray]) -> Any:
        if self._takes_tensors and self._schema.has_input_names():
            return dict(columns)
        if self._takes_tensors or any(column.ndim > 1 for column in columns.values()):
            (tensor,) = columns.values()
            return tensor
        return self._cast(pd.DataFrame(dict(columns)))

    def _cast(self, table: pd.DataFrame) -> pd.DataFrame:
        return table if self._schema is None else cast_df_types_according_to_schema(table, self._schema)


def named_outputs(predictions: Any) -> dict[str, np.ndarray]:
    """Return predictions as arrays by name: the columns of a table, or `predictions`."""
    if isinstance(predictions, pd.DataFrame):
        return {str(name): column.to_numpy() for name, column in predictions.items()}
    if isinstance(predictions, Mapping):
        return {str(name): np.asarray(value) for name, value in predictions.items()}
    return {"predictions": np.asarray(predictions)}


def json_predictions(predictions: Any) -> Any:
    """Return predictions as JSON: a table by rows, an array by nested lists."""
    if isinstance(predictions, pd.DataFrame):
        return predictions.to_dict(orient="records")
    if isinstance(predictions, Mapping):
        return {str(name): np.asarray(value).tolist() for name, value in predictions.items()}
    return np.asarray(predictions).tolist()
