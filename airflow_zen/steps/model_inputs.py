"""What a model takes: the columns that it was fitted on, and a few rows of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from airflow_zen.steps.arguments import describe_as_json

# scikit-learn's API, which XGBoost's and LightGBM's estimators follow; CatBoost; XGBoost's booster.
_NAMES_OF_FEATURES = ("feature_names_in_", "feature_names_", "feature_names")
_MAX_ROWS, _MAX_BYTES = 5, 100_000


def describe_model_input(model: Any, arguments: Iterable[Any], with_rows: bool) -> dict[str, Any]:
    """Return the `columns` (name and type) and up to 5 `rows` of the first table in which a model's features are.

    Empty for a model that does not know the names of its features, and where no argument has all of them. The rows are
    left out where they are not wanted, or are more than 100 kB as JSON.
    """
    names = _feature_names(model)
    for table in arguments if names else ():
        columns = _columns(table)
        if all(name in columns for name in names):
            described = {"columns": [{"name": name, "type": str(columns[name].dtype)} for name in names]}
            cells = (map(_cell, islice(columns[name], _MAX_ROWS)) for name in names)
            rows = [*map(list, zip(*cells, strict=True))]
            fits = with_rows and len(json.dumps(rows)) <= _MAX_BYTES
            return {**described, "rows": rows} if fits else described
    return {}


def _feature_names(model: Any) -> Sequence[str]:
    for attribute in _NAMES_OF_FEATURES:
        try:
            names = getattr(model, attribute)
        except Exception:  # noqa: BLE001, S112 - properties of estimators raise anything when they are not fitted
            continue
        if names is not None and not callable(names) and len(names):
            return [*map(str, names)]
    return []


def _columns(table: Any) -> Mapping[str, Any]:
    """Return the columns of a table of pandas, Polars or Arrow by name; none of another value."""
    if hasattr(table, "column_names") and hasattr(table, "slice"):
        table = table.slice(0, _MAX_ROWS).to_pandas()
    names = getattr(table, "columns", ()) if hasattr(table, "head") and hasattr(table, "dtypes") else ()
    head = table.head(_MAX_ROWS) if len(names) else {}
    return {str(name): head[name] for name in names}


def _cell(value: Any) -> Any:
    """Return a cell as JSON; what is missing is None."""
    value = value.item() if hasattr(value, "item") else value
    return None if value != value else describe_as_json(value)
