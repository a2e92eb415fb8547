"""Requests for predictions and their answers in JSON, in the protocols of MLflow, KServe (V1, V2) and BentoML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from airflow_zen.errors import InputError

_DATATYPES = {"f": "FP64", "i": "INT64", "u": "UINT64", "b": "BOOL"}
_FLATTENED = "data"


class Rows(msgspec.Struct, frozen=True):
    """Inputs of a model as JSON: a table by rows, or an array as nested lists, which has no columns.

    datatypes: of each column, or of the array, as in the V2 protocol: `FP64`, `INT64`, `BOOL`, `BYTES`.
    """

    columns: tuple[str, ...]
    datatypes: tuple[str, ...]
    data: Sequence[Any]

    @classmethod
    def from_value(cls, value: Any) -> Rows:
        """Return the rows of a pandas frame, or of an array of NumPy; what is missing is null."""
        if hasattr(value, "columns"):
            kinds = tuple(map(_datatype, value.dtypes))
            return cls(tuple(map(str, value.columns)), kinds, [[*map(_plain, row)] for row in value.to_numpy(object)])
        if not hasattr(value, "dtype"):
            raise InputError(f"Rows for a model are a table or an array, got {type(value).__qualname__}.")
        return cls((), (_datatype(value.dtype),), _plain(value.tolist()))

    def __len__(self) -> int:
        return len(self.data)

    def records(self) -> list[Any]:
        """Return an object of each row; the rows of an array as they are."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.data] if self.columns else [*self.data]


def encode_invocation(rows: Rows) -> dict[str, Any]:
    """Return a body for MLflow's `/invocations`."""
    if not rows.columns:
        return {"inputs": rows.data}
    return {"dataframe_split": {"columns": rows.columns, "data": rows.data}}


def encode_v1(rows: Rows) -> dict[str, Any]:
    """Return a body for `/v1/models/NAME:predict`."""
    return {"instances": rows.records()}


def encode_v2(rows: Rows) -> dict[str, Any]:
    """Return a body for `/v2/models/NAME/infer`: a table as one input for each column."""
    if not rows.columns:
        flat, shape = _flatten(rows.data)
        return {"inputs": [{"name": "input-0", "shape": shape, "datatype": rows.datatypes[0], "data": flat}]}
    columns = zip(rows.columns, rows.datatypes, zip(*rows.data, strict=True), strict=True)
    inputs = [{"name": name, "shape": [len(rows)], "datatype": kind, "data": [*data]} for name, kind, data in columns]
    return {"parameters": {"content_type": "pd"}, "inputs": inputs}


def decode_rows(body: Any) -> Rows:
    """Return the rows of a request in any of these protocols. Raises `InputError` for another body."""
    if isinstance(body, Mapping):
        if "dataframe_split" in body:
            split = body["dataframe_split"]
            return _table(split["columns"], split["data"])
        for key in ("dataframe_records", "instances", "rows", "inputs", "input_data"):
            if key in body:
                return _decode_records(body[key])
    raise InputError(f"A request for predictions has dataframe_split, instances, inputs or rows, got {_shown(body)}.")


def decode_predictions(answer: Any) -> list[Any]:
    """Return the predictions of an answer in any of these protocols as nested lists, one of each row.

    Raises `InputError` for another answer.
    """
    if isinstance(answer, Mapping):
        if "predictions" in answer:
            return _nested(answer["predictions"])
        if "outputs" in answer:
            columns = [_unflatten(each["data"], each["shape"]) for each in answer["outputs"]]
            return columns[0] if len(columns) == 1 else [list(row) for row in zip(*columns, strict=True)]
    if isinstance(answer, list):
        return _nested(answer)
    raise InputError(f"An answer has predictions or outputs, got {_shown(answer)}.")


def plain_predictions(predictions: Any) -> list[Any]:
    """Return what a model returned as nested lists of JSON values, one of each row."""
    if hasattr(predictions, "to_numpy"):
        predictions = predictions.to_numpy()
    if isinstance(predictions, Mapping):
        return _nested({name: plain_predictions(values) for name, values in predictions.items()})
    found: list[Any] = _plain(predictions.tolist() if hasattr(predictions, "tolist") else [*predictions])
    return found


def compare_predictions(expected: Any, answer: Any, tolerance: float = 1e-6) -> str:
    """Return the first difference between expected predictions and an answer in words, empty without any.

    tolerance: by which numbers may differ, in relation to the greater one.
    """
    try:
        actual = decode_predictions(answer)
    except (InputError, KeyError, TypeError, ValueError) as error:
        return f"its answer has no predictions: {error}."
    expected = _nested(expected)
    if len(expected) != len(actual):
        return f"{len(expected)} rows were sent, and {len(actual)} predictions came back."
    for at, (wanted, found) in enumerate(zip(expected, actual, strict=True)):
        if not _is_same(wanted, found, tolerance):
            return f"row {at} is {_shown(found)}, and {_shown(wanted)} in process."
    return ""


def _decode_records(held: Any) -> Rows:
    """Return the rows of a list of objects, of columns by name, of V2 tensors, or of nested lists."""
    if isinstance(held, Mapping):
        return _table(list(held), [list(row) for row in zip(*held.values(), strict=True)])
    first = held[0] if held else None
    if isinstance(first, Mapping) and {"name", _FLATTENED, "shape"} <= first.keys():
        columns = [_unflatten(each[_FLATTENED], each["shape"]) for each in held]
        if len(columns) == 1 and len(held[0]["shape"]) > 1:
            return Rows((), (held[0]["datatype"],), columns[0])
        rows = [list(row) for row in zip(*columns, strict=True)]
        return Rows(tuple(each["name"] for each in held), tuple(each["datatype"] for each in held), rows)
    if isinstance(first, Mapping):
        names = list(dict.fromkeys(name for record in held for name in record))
        return _table(names, [[record.get(name) for name in names] for record in held])
    return Rows((), (_datatype_of([*_leaves(held)]),), held)


def _table(columns: Sequence[str], data: Sequence[Sequence[Any]]) -> Rows:
    kinds = tuple(_datatype_of(values) for values in zip(*data, strict=True)) if data else ("BYTES",) * len(columns)
    return Rows(tuple(columns), kinds, data)


def _datatype(dtype: Any) -> str:
    return _DATATYPES.get(getattr(dtype, "kind", "O"), "BYTES")


def _datatype_of(values: Sequence[Any]) -> str:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool}:
        return "BOOL"
    if kinds <= {int}:
        return "INT64"
    return "FP64" if kinds <= {int, float} else "BYTES"


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: NaN and what pandas calls missing as null, dates as text."""
    if isinstance(value, list):
        return [*map(_plain, value)]
    if hasattr(value, "item") and not hasattr(value, "isoformat"):
        value = value.item()
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value != value or type(value).__name__ == "NAType":
        return None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _nested(predictions: Any) -> list[Any]:
    """Return predictions as nested lists; an object is the list of its values."""
    if isinstance(predictions, Mapping):
        # MLflow answers with columns by name where the model returns a dict of arrays.
        return [list(row) for row in zip(*map(_nested, predictions.values()), strict=True)]
    return [list(each.values()) if isinstance(each, Mapping) else each for each in predictions]


def _is_same(wanted: Any, found: Any, tolerance: float) -> bool:
    if isinstance(wanted, list | tuple) and isinstance(found, list | tuple):
        return len(wanted) == len(found) and all(_is_same(*pair, tolerance) for pair in zip(wanted, found, strict=True))
    # A column of its own is the same as none around it.
    for one, other in ((wanted, found), (found, wanted)):
        if isinstance(one, list | tuple) and not isinstance(other, list | tuple):
            return len(one) == 1 and _is_same(one[0], other, tolerance)
    if isinstance(wanted, int | float) and isinstance(found, int | float):
        return math.isclose(wanted, found, rel_tol=tolerance, abs_tol=tolerance * 1e-3)
    return bool(wanted == found)


def _flatten(data: Any) -> tuple[list[Any], list[int]]:
    shape, flat = [], data
    while isinstance(flat, list | tuple):
        shape.append(len(flat))
        flat = flat[0] if flat else None
    return [*_leaves(data)], shape


def _leaves(data: Any) -> Any:
    if isinstance(data, list | tuple):
        for each in data:
            yield from _leaves(each)
    else:
        yield data


def _unflatten(data: Sequence[Any], shape: Sequence[int]) -> list[Any]:
    """Return nested lists of a shape; data that is nested already stays."""
    if len(shape) < 2 or (data and isinstance(data[0], list)):
        return [*data]
    size = math.prod(shape[1:])
    return [_unflatten(data[at * size : (at + 1) * size], shape[1:]) for at in range(shape[0])]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
