"""What a refusal of batches tells a user to do, done: the batches are then stored as one table, with the same rows."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tests.materializers.remedies import Remedy

MANY = [pd.DataFrame({"a": pd.Categorical([f"word{n}" for n in range(2000)])})] * 2
EMPTY = [pd.DataFrame(index=range(2))] * 2
SHARED = pa.array([["x"], ["y"]])
# Dictionaries of lists are not unified.
NESTED = [pa.table({"a": pa.DictionaryArray.from_arrays(pa.array([0]), SHARED[at : at + 1])}) for at in range(2)]


def _frames(*columns: Any) -> list[pd.DataFrame]:
    return [pd.DataFrame({"a": column}) for column in columns]


def _tables(*columns: Any) -> list[pa.Table]:
    return [pa.table({"a": column}) for column in columns]


def _batches(made: Iterable[Any], advice: str, change: Callable[[Any], Any]) -> Remedy:
    """Return a remedy that changes each batch; the rows that come back are those of the changed batches."""
    changed = [change(batch) for batch in made]
    return Remedy(lambda: iter(made), advice, lambda _: iter(changed), lambda loaded, _: _is_joined(loaded, changed))


def _is_joined(loaded: Any, batches: list[Any]) -> bool:
    if isinstance(loaded, pa.Table):
        return loaded.to_pylist() == [row for batch in batches for row in batch.to_pylist()]
    joined = pd.concat(batches, ignore_index=True)
    pd.testing.assert_frame_equal(loaded.reset_index(drop=True), joined)
    return bool(loaded.attrs == batches[0].attrs)


def _read_csv(**options: Any) -> Any:
    return pd.read_csv(io.StringIO("a\n1\n1.5\n"), chunksize=1, **options)


def _noted(note: int) -> pd.DataFrame:
    frame = pd.DataFrame({"a": [note]})
    frame.attrs["note"] = note
    return frame


def _without_note(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(frame.to_dict("list"))


_ONE_DTYPE = "Give columns one dtype in all batches"
_CAST = "Give the column one dtype in all batches"
_CATEGORIES = "Convert a column with more than 1000 categories to its value type, or return one frame."

REMEDIES: dict[str, Remedy] = {
    "other dtype": Remedy(
        lambda: iter(_read_csv()),
        f"{_CAST}, for example by dtype= where it is read",
        lambda _: iter(_read_csv(dtype={"a": float})),
        lambda loaded, _: loaded.equals(pd.DataFrame({"a": [1.0, 1.5]})),
    ),
    "other names": _batches(
        [pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})],
        "Yield the same columns each time",
        lambda frame: frame.set_axis(["a"], axis="columns"),
    ),
    "other categories": _batches(
        _frames(pd.Categorical(["x"]), pd.Categorical(["y"])),
        _ONE_DTYPE,
        lambda frame: frame.astype(pd.CategoricalDtype(["x", "y"])),
    ),
    "other zone": _batches(
        _frames(*(pd.to_datetime(["2024"]).tz_localize(zone) for zone in ("UTC", "Europe/Paris"))),
        _CAST,
        lambda frame: frame.assign(a=frame["a"].dt.tz_convert("UTC")),
    ),
    "other objects": _batches(
        _frames(np.array(["x"], object), np.array([b"x"], object)), _CAST, lambda frame: frame.astype("str")
    ),
    "texts and objects": _batches(
        _frames(["x"], pd.Series(["y"], dtype=object)), "for text that is 'str'", lambda frame: frame.astype("str")
    ),
    "other attrs": _batches(
        [_noted(1), _noted(2)], "and all frames the same attrs and names of their axes", _without_note
    ),
    "other names of the axes": _batches(
        [frame.rename_axis(columns=name) for name, frame in zip("xy", _frames([1], [2]), strict=True)],
        "and all frames the same attrs and names of their axes",
        lambda frame: frame.rename_axis(columns=None),
    ),
    "no frame": _batches(
        [pd.DataFrame({"a": [1]}), 7],
        "Batch 1 is a int, the first a DataFrame. Yield values of one type",
        lambda batch: batch if isinstance(batch, pd.DataFrame) else pd.DataFrame({"a": [batch]}),
    ),
    "indexes": _batches(
        [pd.Index([1, 2]), pd.Index([3])], "Yield frames", lambda index: index.to_frame(index=False, name="a")
    ),
    "many categories, as values": _batches(MANY, _CATEGORIES, lambda frame: frame.astype("str")),
    "many categories, as one frame": Remedy(
        lambda: iter(MANY), _CATEGORIES, lambda _: pd.concat(MANY), lambda loaded, _: loaded.equals(pd.concat(MANY))
    ),
    "no columns": Remedy(
        lambda: iter(EMPTY),
        "A frame without columns is not written batch by batch. Return it as one",
        lambda _: pd.concat(EMPTY),
        lambda loaded, _: loaded.equals(pd.concat(EMPTY)),
    ),
    "arrays": Remedy(
        lambda: iter([np.ones(2), np.zeros(2)]),
        "only tables are written batch by batch. Return one value, or a list of them",
        lambda _: [np.ones(2), np.zeros(2)],
        lambda loaded, _: np.array_equal(loaded, [np.ones(2), np.zeros(2)]),
    ),
    "arrays, joined": Remedy(
        lambda: iter([np.ones(2), np.zeros(2)]),
        "Return one value, or a list of them",
        lambda _: np.concatenate([np.ones(2), np.zeros(2)]),
        lambda loaded, _: np.array_equal(loaded, [1, 1, 0, 0]),
    ),
    "Arrow types": _batches(_tables([1], ["2"]), _CAST, lambda table: table.cast(pa.schema([("a", pa.string())]))),
    "Arrow names": _batches(
        [pa.table({"a": [1]}), pa.table({"b": [1]})],
        "Yield the same columns each time",
        lambda table: table.rename_columns(["a"]),
    ),
    "no Arrow table": _batches(
        [pa.table({"a": [1]}), {"a": [2]}],
        "Batch 1 is a dict, the first is an Arrow table. Yield Arrow tables only",
        lambda batch: batch if isinstance(batch, pa.Table) else pa.table(batch),
    ),
    "Arrow table with our key": _batches(
        [table.replace_schema_metadata({"airflow_zen": "mine"}) for table in _tables([1], [2])],
        "Use another key",
        lambda table: table.replace_schema_metadata({"mine": "mine"}),
    ),
    "Arrow dictionaries of lists, as one dictionary": _batches(
        NESTED,
        "Give dictionary columns the same dictionary in all batches",
        lambda table: pa.table(
            {"a": pa.DictionaryArray.from_arrays(pa.array([SHARED.to_pylist().index(table["a"][0].as_py())]), SHARED)}
        ),
    ),
    "Arrow dictionaries of lists, as values": _batches(
        NESTED,
        "or replace them by their values, column.combine_chunks().dictionary_decode()",
        lambda table: pa.table({"a": table["a"].combine_chunks().dictionary_decode()}),
    ),
    "Arrow seconds beyond milliseconds": _batches(
        _tables(pa.array([2**62], pa.timestamp("s")), pa.array([1], pa.timestamp("s"))),
        "Cast the column to a type that holds it there, such as timestamp[ms] or int64",
        lambda table: table.cast(pa.schema([("a", pa.int64())])),
    ),
}


@pytest.mark.parametrize("remedy", REMEDIES.values(), ids=REMEDIES.keys())
def test_remedy_of_batches_works(remedy: Remedy, tmp_path: Path) -> None:
    """Refused batches, changed as the refusal says, are stored and have the rows of all."""
    remedy.show(tmp_path)
