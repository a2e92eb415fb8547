"""Codecs of what estimators hold beside numbers: classes, functions, patterns, paths, loggers, SciPy's distributions."""

from __future__ import annotations

import functools
import logging
import pathlib
import re
import sys
from collections.abc import Mapping
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_zen.errors import ArtifactRefused, SaveRefused, ZenError
from airflow_zen.materializers.sklearn.trust import class_name, function_name, load_class, load_function
from airflow_zen.materializers.typed_json.codec import Codec, Json, field_codec, path_codec

if TYPE_CHECKING:
    from airflow_zen.materializers.typed_json.encoding import Decoder, Encoder

_FUNCTION_TYPES = (FunctionType, type(len), type(str.lower), type(functools.lru_cache(len)), type(np.clip))
_CYTHON_FUNCTION = "cython_function_or_method"
_PATHS = {
    cls.__name__: cls for cls in (pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.Path, type(pathlib.Path()))
}
_FROZEN_DISTRIBUTION = re.compile(r"scipy\.stats\._distn_infrastructure\.rv_\w*frozen$")
_UFUNC_MODULES = ("numpy", "scipy.special")
_PICKLE_START = re.compile(rb"\x80[\x02-\x05]|PK\x03\x04.{0,200}data\.pkl", re.DOTALL)


def codec_of(value: Any) -> Codec | None:
    """Return the codec of a value that only estimators have; None for any other."""
    if isinstance(value, type):
        return _CLASS
    kind = type(value)
    if kind in _FUNCTION_TYPES or kind.__name__ == _CYTHON_FUNCTION:
        return _FUNCTION if getattr(value, "__self__", None) is None or kind is type(len) else _METHOD
    if isinstance(value, pathlib.PurePath) and kind in _PATHS.values():
        return _PATH
    if _FROZEN_DISTRIBUTION.match(f"{kind.__module__}.{kind.__qualname__}"):
        return _DISTRIBUTION
    return _CODECS.get(kind)


def refuse_pickle(data: bytes | bytearray, error: type[ZenError] = SaveRefused) -> None:
    """Raise an error for bytes that are a pickle, which `__setstate__` would load."""
    if _PICKLE_START.match(data):
        raise error(
            "it is a pickle in bytes, and loading one runs code. Save what the estimator wraps by its own materializer. Of a "
            "net of skorch return the PyTorch module: module = net.module_. Where it is used: net.initialize(); "
            "net.module_.load_state_dict(module.state_dict()), with a net made as before."
        )


def _encode_ufunc(value: np.ufunc, _: Encoder) -> Mapping[str, Json]:
    for module in _UFUNC_MODULES:
        if getattr(sys.modules.get(module), value.__name__, None) is value:
            return {"module": module, "name": value.__name__}
    raise SaveRefused(
        f"the ufunc {value.__name__} is none of NumPy or scipy.special. Call it in a function of your own, defined with def."
    )


def _decode_ufunc(node: Mapping[str, Json], _: Decoder) -> np.ufunc:
    if node["module"] == "scipy.special":
        import scipy.special  # noqa: F401
    module = sys.modules[node["module"]] if node["module"] in _UFUNC_MODULES else None
    found = getattr(module, node["name"], None)
    if not isinstance(found, np.ufunc):
        raise ArtifactRefused(f"{node['module']}.{node['name']} is no ufunc here, and the artifact says it is one.")
    return found


def _encode_method(value: MethodType, encoder: Encoder) -> Mapping[str, Json]:
    # A method around a callable object has no name.
    name = getattr(value, "__name__", repr(value.__func__))
    if getattr(value.__self__, name, None) != value:
        raise SaveRefused(f"the method {name} is not found by its name. Define it in the class.")
    return {"of": encoder.encode(value.__self__), "name": name}


def _decode_method(node: Mapping[str, Json], decoder: Decoder) -> Any:
    owner, name = decoder.decode(node["of"]), node["name"]
    found = None if name.startswith("__") else getattr(owner, name, None)
    if not isinstance(found, MethodType):
        raise ArtifactRefused(f"{type(owner).__qualname__} has no method {name!r}, and the artifact names one.")
    return found


def _encode_partial(value: functools.partial[Any], encoder: Encoder) -> Mapping[str, Json]:
    if vars(value):
        raise SaveRefused("it is a functools.partial with attributes of its own. Keep them beside it.")
    named = {"function": value.func, "arguments": [*value.args], "keywords": dict(value.keywords)}
    return {name: encoder.encode(item) for name, item in named.items()}


def _decode_partial(node: Mapping[str, Json], decoder: Decoder) -> Any:
    function = decoder.decode(node["function"])
    return functools.partial(function, *decoder.decode(node["arguments"]), **decoder.decode(node["keywords"]))


def _encode_distribution(value: Any, encoder: Encoder) -> Mapping[str, Json]:
    name = value.dist.name
    if type(getattr(sys.modules["scipy.stats"], name, None)) is not type(value.dist):
        raise SaveRefused(f"the distribution {name!r} is none of scipy.stats. Use one of those, or a list of values.")
    return {"name": name, "arguments": encoder.encode([*value.args]), "keywords": encoder.encode(dict(value.kwds))}


def _decode_distribution(node: Mapping[str, Json], decoder: Decoder) -> Any:
    import scipy.stats

    found = getattr(scipy.stats, node["name"], None)
    if not isinstance(found, scipy.stats.rv_continuous | scipy.stats.rv_discrete):
        raise ArtifactRefused(f"scipy.stats has no distribution {node['name']!r}.")
    return found(*decoder.decode(node["arguments"]), **decoder.decode(node["keywords"]))


_CLASS = Codec(
    "class", lambda value, _: {"name": class_name(value)}, lambda node, of: load_class(node["name"], of.wanted)
)
_FUNCTION = Codec(
    "function", lambda value, _: {"name": function_name(value)}, lambda node, of: load_function(node["name"], of.wanted)
)
_METHOD = Codec("method", _encode_method, _decode_method)
_PATH = path_codec("path", _PATHS)
_DISTRIBUTION = Codec("scipy.frozen", _encode_distribution, _decode_distribution)
_CODECS: dict[type, Codec] = {
    MethodType: _METHOD,
    np.ufunc: Codec("numpy.ufunc", _encode_ufunc, _decode_ufunc),
    functools.partial: Codec("partial", _encode_partial, _decode_partial),
    re.Pattern: Codec(
        "pattern",
        lambda value, encoder: {"pattern": encoder.encode(value.pattern), "flags": value.flags},
        lambda node, decoder: re.compile(decoder.decode(node["pattern"]), node["flags"]),
    ),
    logging.Logger: field_codec("logger", "name", lambda value: value.name, logging.getLogger),
}
CODECS = {codec.tag: codec for codec in (_CLASS, _FUNCTION, _PATH, _DISTRIBUTION, *_CODECS.values())}
"""All codecs of this module by their tag."""
