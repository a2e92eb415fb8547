"""What "comes back exactly" means for values of libraries that not every process has loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Compare = Callable[[Any, Any], None]


def library_comparison(value: Any, assert_same: Compare) -> Compare | None:
    """Give how two values of such a library are compared; None for every other value."""
    for base in type(value).__mro__:
        make = _COMPARISONS.get(base.__module__.partition(".")[0])
        if make is not None:
            return make(assert_same, value)
    return None


def _sparse(assert_same: Compare, value: Any) -> Compare | None:
    import scipy.sparse

    def compare(left: Any, right: Any) -> None:
        assert (left.format, left.shape, left.dtype) == (right.format, right.shape, right.dtype)
        for name in ("data", "indices", "indptr", "offsets", "coords", "has_canonical_format"):
            if left.format in {"dok", "lil"} or not hasattr(left, name):
                continue
            assert_same(getattr(left, name), getattr(right, name))
        if left.format == "dok":
            assert list(left.keys()) == list(right.keys())
            assert_same(np.array(list(left.values())), np.array(list(right.values())))
        if left.format == "lil":
            assert list(map(list, left.rows)) == list(map(list, right.rows))
        np.testing.assert_array_equal(left.toarray(), right.toarray(), strict=True)

    return compare if scipy.sparse.issparse(value) else None


def _xgboost(assert_same: Compare, value: Any) -> Compare:
    import xgboost

    def compare(left: Any, right: Any) -> None:
        if isinstance(left, xgboost.Booster):
            assert left.save_raw("ubj") == right.save_raw("ubj")
            assert left.save_config() == right.save_config()
            assert left.attributes() == right.attributes()
            return
        assert_same(dict(sorted(vars(left).items())), dict(sorted(vars(right).items())))

    return compare


def _lightgbm(assert_same: Compare, value: Any) -> Compare:
    import lightgbm

    def compare(left: Any, right: Any) -> None:
        if isinstance(left, lightgbm.Booster):
            assert left.model_to_string(num_iteration=-1) == right.model_to_string(num_iteration=-1)
            for name in ("best_iteration", "best_score", "params", "pandas_categorical"):
                assert_same(getattr(left, name), getattr(right, name))
            return
        assert_same(left.get_params(), right.get_params())
        assert_same(dict(sorted(vars(left).items())), dict(sorted(vars(right).items())))

    return compare


def _pillow(assert_same: Compare, value: Any) -> Compare:
    def compare(left: Any, right: Any) -> None:
        assert left == right
        assert left.getpalette(None) == right.getpalette(None)
        assert_same(left.info, right.info)

    return compare


def _plotly(assert_same: Compare, value: Any) -> Compare:
    def ordered(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: ordered(item) for key, item in sorted(node.items())}
        # plotly makes some of its arrays read-only, whoever made them.
        node = np.array(node) if isinstance(node, np.ndarray) else node
        return [ordered(item) for item in node] if isinstance(node, list) else node

    return lambda left, right: assert_same(ordered(left.to_plotly_json()), ordered(right.to_plotly_json()))


def _xarray(assert_same: Compare, value: Any) -> Compare:
    def variables(one: Any, other: Any) -> None:
        assert one.dims == other.dims
        assert_same(one.values, other.values) if one.dtype.kind != "O" else None
        assert_same(dict(one.attrs), dict(other.attrs))
        assert_same(dict(one.encoding), dict(other.encoding))

    def compare(left: Any, right: Any) -> None:
        assert left.identical(right)
        assert list(left.coords) == list(right.coords)
        for name in left.coords:
            variables(left.coords[name].variable, right.coords[name].variable)
        assert left.xindexes.keys() == right.xindexes.keys()
        for name in left.indexes:
            assert_same(left.indexes[name], right.indexes[name])
        if hasattr(left, "data_vars"):
            assert list(left.data_vars) == list(right.data_vars)
            for name in left.data_vars:
                variables(left[name].variable, right[name].variable)
        else:
            variables(left.variable, right.variable)
            assert left.name == right.name

    return compare


def _geopandas(assert_same: Compare, value: Any) -> Compare:
    import pandas as pd
    import shapely

    def series(left: Any, right: Any) -> None:
        assert left.crs == right.crs
        assert (left.crs and left.crs.srs) == (right.crs and right.crs.srs)
        assert_same(left.index, right.index)
        assert left.name == right.name
        assert [shapely.to_wkb(shape) for shape in left] == [shapely.to_wkb(shape) for shape in right]

    def frames(left: Any, right: Any) -> None:
        assert left._geometry_column_name == right._geometry_column_name
        assert_same(left.columns, right.columns)
        assert_same(left.attrs, right.attrs)
        for place in range(left.shape[1]):
            one, other = left.iloc[:, place], right.iloc[:, place]
            series(one, other) if str(one.dtype) == "geometry" else assert_same(one, other)

    return frames if isinstance(value, pd.DataFrame) else series


_COMPARISONS: dict[str, Callable[[Compare, Any], Compare | None]] = {
    "PIL": _pillow,
    "geopandas": _geopandas,
    "lightgbm": _lightgbm,
    "plotly": _plotly,
    "scipy": _sparse,
    "xarray": _xarray,
    "xgboost": _xgboost,
}
