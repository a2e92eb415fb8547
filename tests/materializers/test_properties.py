"""Whatever hypothesis thinks of comes back exactly, or is refused."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis.extra import numpy as hnp
from hypothesis.extra import pandas as hpd

from airflow_zen.materializers.registry import default_registry
from airflow_zen.materializers.scipy import FORMATS
from tests.materializers import records as r
from tests.materializers.sameness import assert_same

REGISTRY = default_registry()
BOUNDED = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(codec=None)),
    st.binary(),
    st.complex_numbers(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.dates(),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.times(),
    st.timedeltas(),
    st.uuids(),
)
KEYS = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary(), st.dates(), st.tuples(st.integers()))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(st.text(max_size=2) | st.just("$"), inner, max_size=4),
        st.sets(KEYS, max_size=4),
        st.frozensets(KEYS, max_size=4),
    ),
    max_leaves=12,
)
DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(),
    hnp.unsigned_integer_dtypes(),
    hnp.floating_dtypes(sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(sizes=(64, 128)),
    hnp.datetime64_dtypes(),
    hnp.timedelta64_dtypes(),
    hnp.unicode_string_dtypes(max_len=3),
    hnp.byte_string_dtypes(max_len=3),
)
LABELS = st.one_of(
    st.text(max_size=3), st.integers(-5, 5), st.none(), st.tuples(st.text(max_size=1), st.integers(0, 2))
)


@BOUNDED
@given(TREES)
def test_any_tree_comes_back(value: Any) -> None:
    """Nested containers of standard values come back exactly."""
    _round_trip(value)


ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=1, max_dims=2, max_side=3))
FRAMES = hpd.data_frames(
    [hpd.column("f", dtype=float), hpd.column("s", elements=st.text(max_size=2), dtype=object)],
    index=hpd.range_indexes(max_size=3),
)
SPARSE = st.builds(
    lambda array, name: getattr(scipy.sparse, name)(array),
    hnp.arrays(st.sampled_from(["f4", "f8", "i2", "?", "c8"]), hnp.array_shapes(min_dims=2, max_dims=2, max_side=4)),
    st.sampled_from([f"{name}_{kind}" for name in FORMATS for kind in ("array", "matrix")]),
)
CONTAINERS = st.recursive(
    st.one_of(LEAVES, ARRAYS, FRAMES, SPARSE),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
        st.builds(r.Report, inner, inner),
    ),
    max_leaves=6,
)


@BOUNDED
@given(CONTAINERS)
def test_any_container_of_artifacts_comes_back(value: Any) -> None:
    """Whatever containers and records hold frames, arrays and sparse matrices, all of it is one artifact."""
    _round_trip(value)


@BOUNDED
@given(SPARSE)
def test_any_sparse_matrix_comes_back(value: Any) -> None:
    """A sparse matrix keeps its format, its dtypes and every stored entry."""
    _round_trip(value)


@BOUNDED
@given(hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
def test_any_array_comes_back(value: np.ndarray[Any, Any]) -> None:
    """Arrays of any shape and dtype come back exactly, byte order included, alone and inside a dict."""
    _round_trip(value)
    _round_trip({"a": value})


@BOUNDED
@given(
    hpd.data_frames(
        [
            hpd.column("f", dtype=float),
            hpd.column("i", dtype=np.int16),
            hpd.column("s", elements=st.text(st.characters(codec="utf-8"), max_size=3), dtype=object),
            hpd.column("o", elements=LABELS, dtype=object),
            hpd.column("t", elements=st.datetimes(min_value=pd.Timestamp("1900").to_pydatetime()), dtype="M8[us]"),
        ],
        index=hpd.range_indexes(max_size=6),
    ),
    st.lists(LABELS, min_size=5, max_size=5),
    st.data(),
)
def test_any_small_frame_comes_back(frame: pd.DataFrame, names: list[Any], data: st.DataObject) -> None:
    """Frames come back exactly whatever their cells, and whatever labels their rows and columns have."""
    frame.columns = pd.Index(names, tupleize_cols=False)
    labels = data.draw(st.lists(LABELS, min_size=len(frame), max_size=len(frame)))
    frame.index = pd.Index(labels, tupleize_cols=False, name=data.draw(LABELS))
    _round_trip(frame)


@BOUNDED
@given(
    st.lists(st.sampled_from(["x", "y", "z", None]), max_size=6),
    st.permutations(["x", "y", "z", "unused"]),
    st.booleans(),
)
def test_any_categorical_comes_back(values: list[str | None], categories: list[str], ordered: bool) -> None:
    """Categoricals keep codes, categories, their order, and those that are not used."""
    _round_trip(pd.Series(pd.Categorical(values, categories=categories, ordered=ordered)))


def _round_trip(value: Any) -> None:
    with tempfile.TemporaryDirectory() as directory:
        saved = REGISTRY.save(value, Path(directory))
        assert_same(value, REGISTRY.load(Path(directory), saved.encoding))
