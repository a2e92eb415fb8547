"""The bytes of an array that mean nothing, made the same in every process."""

from __future__ import annotations

from typing import Any

import numpy as np

_X87_BYTES = 10


def zero_padding(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Give the array with zeros where its dtype has gaps, which otherwise hold what was in memory before."""
    if not _has_padding(array.dtype):
        return array
    zeroed: np.ndarray[Any, Any] = np.zeros(array.shape, dtype=array.dtype, order="F" if array.flags.fnc else "C")
    _copy_fields(array, zeroed)
    return zeroed


def _has_padding(dtype: np.dtype[Any]) -> bool:
    if dtype.subdtype is not None:
        return _has_padding(dtype.subdtype[0])
    if dtype.fields is None:
        return dtype.kind in "fc" and np.finfo(dtype).nmant == 63
    inner = [field[0] for field in dtype.fields.values()]
    return sum(part.itemsize for part in inner) != dtype.itemsize or any(map(_has_padding, inner))


def _copy_fields(source: np.ndarray[Any, Any], target: np.ndarray[Any, Any]) -> None:
    if source.dtype.names is not None:
        for name in source.dtype.names:
            _copy_fields(source[name], target[name])
    elif _has_padding(source.dtype):
        components = (
            [(source, target)]
            if source.dtype.kind == "f"
            else [
                (source.real, target.real),
                (source.imag, target.imag),
            ]
        )
        for one, other in components:
            _copy_extended(one, other)
    else:
        target[...] = source


def _copy_extended(source: np.ndarray[Any, Any], target: np.ndarray[Any, Any]) -> None:
    """Copy x87 80-bit floats: 10 bytes of value in 16 bytes of memory."""
    size = source.dtype.itemsize
    flat = np.ascontiguousarray(source).reshape(-1).view(np.uint8).reshape(-1, size).copy()
    flat[:, _X87_BYTES:] = 0
    target[...] = flat.reshape(-1).view(source.dtype).reshape(source.shape)
