"""Comparisons that define "comes back exactly" for values of the optional libraries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Compare = Callable[[Any, Any], None]


def library_comparison(value: Any, assert_same: Compare) -> Compare | None:
    """Return the comparison for values of an optional library; None for every other value."""
    for base in type(value).__mro__:
        make = _COMPARISONS.get(base.__module__.partition(".")[0])
        if make is not None:
            return make(assert_same, value)
    return None


def are_of_one_kind(left: Any, right: Any) -> bool:
    """Whether two values are of private classes of one public class: every step of a `tf.data.Dataset` has its own."""
    kinds = [
        {base.__qualname__ for base in type(each).__mro__ if base.__module__.startswith("tensorflow.")}
        for each in (left, right)
    ]
    return "DatasetV2" in kinds[0] & kinds[1]


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

    def held(figure: Any) -> Any:
        # to_plotly_json returns only what JavaScript needs of an array.
        return ordered([figure._data, figure._layout, [frame._props for frame in figure._frame_objs]])

    def compare(left: Any, right: Any) -> None:
        assert_same(held(left), held(right))
        assert_same(ordered(left.to_plotly_json()), ordered(right.to_plotly_json()))

    return compare


def _matplotlib(assert_same: Compare, value: Any) -> Compare | None:
    from matplotlib.figure import Figure

    from tests.materializers.figure_values import pixels

    return (lambda one, other: assert_same(pixels(one), pixels(other))) if isinstance(value, Figure) else None


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
        assert left.flags.allows_duplicate_labels == right.flags.allows_duplicate_labels
        assert [shapely.get_srid(shape) for shape in left] == [shapely.get_srid(shape) for shape in right]
        assert [shapely.to_wkb(shape) for shape in left] == [shapely.to_wkb(shape) for shape in right]

    def frames(left: Any, right: Any) -> None:
        assert left.flags.allows_duplicate_labels == right.flags.allows_duplicate_labels
        assert left._geometry_column_name == right._geometry_column_name
        assert_same(left.columns, right.columns)
        assert_same(left.attrs, right.attrs)
        for place in range(left.shape[1]):
            one, other = left.iloc[:, place], right.iloc[:, place]
            series(one, other) if str(one.dtype) == "geometry" else assert_same(one, other)

    return frames if isinstance(value, pd.DataFrame) else series


def _torch(assert_same: Compare, value: Any) -> Compare | None:
    import torch

    def bare(tensor: Any) -> Any:
        return tensor.detach().resolve_conj().resolve_neg()

    def tensors(left: Any, right: Any) -> None:
        assert (left.dtype, left.shape, left.device) == (right.dtype, right.shape, right.device)
        assert left.requires_grad == right.requires_grad
        assert left.layout == right.layout
        if left.is_contiguous(memory_format=torch.channels_last) if left.dim() == 4 else left.is_contiguous():
            assert left.stride() == right.stride()
        one, other = (bare(each).contiguous().flatten().view(torch.uint8) for each in (left, right))
        assert torch.equal(one, other)

    def modules(left: Any, right: Any) -> None:
        assert [name for name, _ in left.named_modules()] == [name for name, _ in right.named_modules()]
        shared_left = _sharing(left.named_parameters(remove_duplicate=False))
        assert shared_left == _sharing(right.named_parameters(remove_duplicate=False))
        one, other = left.__getstate__(), right.__getstate__()
        for name in ("_flat_weights", "_all_weights"):
            one.pop(name, None), other.pop(name, None)
        assert_same(one, other)

    if isinstance(value, torch.nn.Module):
        return modules
    return tensors if isinstance(value, torch.Tensor) else None


def _sharing(named: Any) -> list[list[str]]:
    groups: dict[int, list[str]] = {}
    for name, weight in named:
        groups.setdefault(id(weight), []).append(name)
    return sorted(groups.values())


def _keras(assert_same: Compare, value: Any) -> Compare:
    def compare(left: Any, right: Any) -> None:
        assert left.name == right.name
        assert [layer.name for layer in left.layers] == [layer.name for layer in right.layers]
        optimizers = getattr(left, "optimizer", None), getattr(right, "optimizer", None)
        assert (optimizers[0] is None) == (optimizers[1] is None)
        own = left.weights + (optimizers[0].variables if optimizers[0] else [])
        others = right.weights + (optimizers[1].variables if optimizers[1] else [])
        for one, other in zip(own, others, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy(), strict=True)

    return compare


def _tensorflow(assert_same: Compare, value: Any) -> Compare:
    import tensorflow as tf

    def compare(left: Any, right: Any) -> None:
        assert left.element_spec == right.element_spec
        one, other = ([tf.nest.flatten(element) for element in each] for each in (left, right))
        assert len(one) == len(other) == right.cardinality().numpy()
        for ours, theirs in zip(one, other, strict=True):
            for tensor, again in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(tensor.numpy(), again.numpy(), strict=True)

    return compare


def _datasets(assert_same: Compare, value: Any) -> Compare:
    def compare(left: Any, right: Any) -> None:
        if isinstance(left, dict):
            assert list(left) == list(right)
            for name in left:
                compare(left[name], right[name])
            return
        assert left.features == right.features
        assert (left.split, left.format) == (right.split, right.format)
        assert left.info.description == right.info.description
        assert left.with_format(None).to_list() == right.with_format(None).to_list()

    return compare


def _transformers(assert_same: Compare, value: Any) -> Compare:
    import transformers

    def tokenizers(left: Any, right: Any) -> None:
        assert left.get_vocab() == right.get_vocab()
        assert left.special_tokens_map == right.special_tokens_map
        assert left("a cat b").data == right("a cat b").data

    def models(left: Any, right: Any) -> None:
        assert left.config.to_dict() == right.config.to_dict()
        assert [part.training for part in left.modules()] == [part.training for part in right.modules()]
        assert_same(dict(left.named_parameters()), dict(right.named_parameters()))
        assert_same(dict(left.named_buffers()), dict(right.named_buffers()))

    return models if isinstance(value, transformers.PreTrainedModel) else tokenizers


def _catboost(assert_same: Compare, value: Any) -> Compare:
    def compare(left: Any, right: Any) -> None:
        assert left.is_fitted() == right.is_fitted()
        assert_same(left.get_params(), right.get_params())
        if left.is_fitted():
            assert left == right
            assert_same(left.feature_names_, right.feature_names_)
            assert_same(list(left.classes_), list(right.classes_))

    return compare


_COMPARISONS: dict[str, Callable[[Compare, Any], Compare | None]] = {
    "PIL": _pillow,
    "catboost": _catboost,
    "datasets": _datasets,
    "geopandas": _geopandas,
    "keras": _keras,
    "lightgbm": _lightgbm,
    "matplotlib": _matplotlib,
    "plotly": _plotly,
    "scipy": _sparse,
    "tensorflow": _tensorflow,
    "torch": _torch,
    "transformers": _transformers,
    "xarray": _xarray,
    "xgboost": _xgboost,
}
