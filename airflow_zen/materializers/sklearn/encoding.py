"""Estimators to typed JSON and arrays; objects are numbered, which preserves shared references and cycles."""

from __future__ import annotations

import copyreg
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from airflow_zen.errors import MaterializerNotFound, SaveRefused
from airflow_zen.materializers.numpy.scalars import library_codec
from airflow_zen.materializers.sklearn.archive import VERSION_ATTRIBUTE, ArrayPacks, write_archive
from airflow_zen.materializers.sklearn.codecs import codec_of, refuse_pickle
from airflow_zen.materializers.sklearn.trust import (
    class_name,
    function_name,
    is_estimator,
    is_reconstructor,
    is_trusted_class,
)
from airflow_zen.materializers.typed_json.codec import BUILTIN_CODECS, TAG, Json, record_codec
from airflow_zen.materializers.typed_json.encoding import (
    Encoder,
    NestedValues,
    codec_for_value,
    is_plain_json,
    is_utf8,
    preferred_encoding,
)
from airflow_zen.type_names import module_name, record_definition, type_name

if TYPE_CHECKING:
    from airflow_zen.materializers.registry import MaterializerRegistry

MAX_INLINE_ELEMENTS = 32
MIN_BYTES_AS_ARRAY = 256

_JSON_SCALARS = frozenset({type(None), bool, int, float, str})
_MUTABLE = frozenset({list, dict, set, bytearray, deque, OrderedDict, defaultdict, Counter})
# Families of which an estimator keeps the attributes, as it does of its own parts; others are files of their own.
_KEPT_BY_ATTRIBUTES = ("sklearn.", "scipy.", "lightgbm.", "catboost.", "python.", "cloudpickle")
_MIN_PACKED_SCALARS = 16
# scikit-learn keeps the address of the stop words that it has checked.
_ADDRESSES = frozenset({"_stop_words_id"})


def write_estimator(registry: MaterializerRegistry, estimator: Any, file: Path) -> list[str]:
    """Write the file of an estimator; return the further distributions that it needs.

    Raises `SaveRefused` for an estimator that could not be loaded again.
    """
    with TemporaryDirectory(prefix="estimator-") as parts:
        encoder = EstimatorEncoder(registry, Path(parts))
        root = encoder.encode_estimator(estimator)
        write_archive(file, {"root": root, "objects": encoder.objects}, encoder.packs, Path(parts))
    return encoder.distributions()


class EstimatorEncoder(Encoder):
    """Write an estimator with all its parts: `objects` by number, and arrays in `packs`."""

    def __init__(self, registry: MaterializerRegistry, parts: Path) -> None:
        super().__init__(NestedValues(registry, parts))
        self.objects: list[Json] = []
        self.packs = ArrayPacks()
        self._pending: deque[tuple[int, Any, list[str]]] = deque()
        self._path: list[str] = []
        self._nodes: dict[int, Json] = {}
        self._kept_alive: list[Any] = []
        self._in_files: dict[type, bool] = {}
        self._encode_builtin: dict[type, Callable[[Any, type], Json]] = {
            **dict.fromkeys((list, tuple), self._encode_sequence),
            **dict.fromkeys((bytes, bytearray), self._encode_bytes),
            dict: self._encode_dict,
        }

    def encode_estimator(self, estimator: Any) -> Json:
        """Write an estimator; raises `SaveRefused`, with the attribute, for what would not come back."""
        try:
            root = self.encode(estimator)
            while self._pending:
                number, value, self._path = self._pending.popleft()
                self.objects[number] = self._encode_object(value)
        except (SaveRefused, MaterializerNotFound) as error:
            where = "".join(self._path).removeprefix(".")
            name = type(estimator).__qualname__
            raise SaveRefused(f"{name} is not stored, because of {where or 'its class'}: {error}") from error
        return root

    def distributions(self) -> list[str]:
        """Return the distributions of boosters that are part of the estimator."""
        tops = {str(entry.get("class", "")).partition(".")[0] for entry in self.objects}
        return [name for name in ("lightgbm", "xgboost") if name in tops]

    def unsupported_error(self, value: Any, remedy: str) -> SaveRefused:
        """Return the error for a value that would not come back exactly; the attribute is added to it."""
        return SaveRefused(f"a value of type {type_name(type(value))} is not stored: {remedy}")

    def encode(self, value: Any) -> Json:
        """Write one value; raises `SaveRefused`."""
        kind = type(value)
        if kind in _JSON_SCALARS:
            return super().encode(value)
        if id(value) in self._nodes:
            return self._refer(value)
        if not (kind in _MUTABLE or isinstance(value, np.ndarray)):
            return self._encode_once(value, kind)
        # None marks a container that is being written: it contains itself.
        self._nodes[id(value)] = None
        self._kept_alive.append(value)
        node = self._encode_once(value, kind)
        found, self._nodes[id(value)] = self._nodes[id(value)], node
        if found is not None and found is not node:
            self._move(node, found["number"])
        return node

    def _refer(self, value: Any) -> Json:
        """Return a reference to a value that was written before, which becomes an object with a number."""
        node = self._nodes[id(value)]
        if node is None:
            node = self._nodes[id(value)] = self._new_object()
        elif node.get(TAG) != "object":
            reference = self._new_object()
            self._move(node, reference["number"])
        return dict(self._nodes[id(value)])

    def _move(self, node: Json, number: int) -> None:
        self.objects[number] = {"value": dict(node)}
        node.clear()
        node.update({TAG: "object", "number": number})

    def _new_object(self) -> Json:
        self.objects.append(None)
        return {TAG: "object", "number": len(self.objects) - 1}

    def _encode_once(self, value: Any, kind: type) -> Json:
        if kind in (dict, OrderedDict) and preferred_encoding(value):
            return self._encode_part(value)
        if (encode := self._encode_builtin.get(kind)) is not None:
            return encode(value, kind)
        if isinstance(value, np.ndarray):
            return self._encode_array(value, kind)
        codec = codec_of(value) or codec_for_value(value)
        if codec is None and not is_estimator(kind):
            codec = record_codec(kind)
        if codec is not None:
            return {TAG: codec.tag, **codec.encode(value, self)}
        return self._encode_part(value) if self._is_part(kind) else self._encode_later(value)

    def _encode_sequence(self, value: Any, kind: type) -> Json:
        return {TAG: kind.__name__, "items": self._encode_list(value)}

    def _encode_bytes(self, value: Any, kind: type) -> Json:
        refuse_pickle(value)
        if len(value) >= MIN_BYTES_AS_ARRAY:
            return {TAG: kind.__name__, "in": self.packs.add(np.frombuffer(value, np.uint8))}
        return {TAG: kind.__name__, **BUILTIN_CODECS[kind].encode(value, self)}

    def _is_part(self, kind: type) -> bool:
        """Whether a value is written by its own materializer into files of its own."""
        if kind not in self._in_files:
            self._in_files[kind] = not is_estimator(kind) and self._has_own_files(kind)
        return self._in_files[kind]

    def _has_own_files(self, kind: type) -> bool:
        try:
            encoding = self._parts.registry.for_type(kind).encoding
        except MaterializerNotFound:
            return False
        return not encoding.startswith(_KEPT_BY_ATTRIBUTES)

    def _encode_part(self, value: Any) -> Json:
        self._kept_alive.append(value)
        node = self._nodes[id(value)] = {TAG: "part", **self._parts.save(value)}
        return node

    def _encode_later(self, value: Any) -> Json:
        reference = self._nodes[id(value)] = self._new_object()
        self._kept_alive.append(value)
        self._pending.append((reference["number"], value, [*self._path]))
        return dict(reference)

    def _encode_dict(self, value: dict[Any, Any], _: type) -> Json:
        keys, items = list(value), list(value.values())
        if TAG not in value and all(type(key) is str for key in keys) and all(map(is_utf8, keys)):
            packed = self._pack_scalars(items)
            if packed is not None:
                return {TAG: "dict", "keys": keys, "scalars": packed}
            return value.copy() if is_plain_json(items) else self._encode_members(value)
        return {TAG: "dict", "pairs": [[self.encode(key), self._encode_at(f"[{key!r}]", value[key])] for key in keys]}

    def _encode_members(self, value: Mapping[str, Any], step: str = "[{!r}]") -> dict[str, Json]:
        return {name: self._encode_at(step.format(name), item) for name, item in value.items()}

    def _encode_list(self, values: Any) -> Json:
        if is_plain_json(values):
            return list(values)
        packed = self._pack_scalars(values)
        if packed is not None:
            return {TAG: "scalars", "of": packed}
        return [self._encode_at(f"[{at}]", item) for at, item in enumerate(values)]

    def _encode_at(self, step: str, value: Any) -> Json:
        if type(value) in _JSON_SCALARS:
            return super().encode(value)
        self._path.append(step)
        node = self.encode(value)
        self._path.pop()
        return node

    def _pack_scalars(self, values: Any) -> Json:
        """Return the place of many NumPy numbers of one dtype, such as a vocabulary; None for other values."""
        kinds = set(map(type, values)) if len(values) >= _MIN_PACKED_SCALARS else ()
        if len(kinds) != 1 or not issubclass(kind := next(iter(kinds)), np.number | np.bool_):
            return None
        array = np.array(values, dtype=values[0].dtype)
        return self.packs.add(array) if array.ndim == 1 and type(array[0]) is kind and array.dtype.kind != "V" else None

    def _encode_array(self, value: Any, kind: type) -> Json:
        if kind is np.ma.MaskedArray:
            fill = value._fill_value  # noqa: SLF001 - the property makes one up
            mask = None if value.mask is np.ma.nomask else self.encode(value.mask)
            parts = {"data": self.encode(np.asarray(value.data)), "mask": mask, "fill": self.encode(fill)}
            return {TAG: "masked", **parts, "hard": bool(value.hardmask)}
        if kind is not np.ndarray or value.dtype.kind == "T":
            return self._encode_part(value)
        if value.dtype.kind == "O":
            order: Literal["C", "F"] = "F" if value.flags.fnc else "C"
            items = self._encode_list(value.ravel(order=order).tolist())
            return {TAG: "objects", "shape": list(value.shape), "order": order, "items": items}
        codec = library_codec(value) if value.size <= MAX_INLINE_ELEMENTS else None
        return {TAG: codec.tag, **codec.encode(value, self)} if codec else {TAG: "array", **self.packs.add(value)}

    def _encode_object(self, value: Any) -> Json:
        """Write the parts of an object that `pickle` would use: its class, its constructor arguments, and its state."""
        cls = type(value)
        if not is_trusted_class(cls):
            raise SaveRefused(_advice(value, cls))
        record_definition(cls)
        try:
            reduced = value.__reduce_ex__(4)
        except TypeError as error:
            raise SaveRefused(
                f"{error}. Open it in the method that uses it, and leave it out in __getstate__."
            ) from error
        if isinstance(reduced, str) or len(reduced) > 5:
            raise SaveRefused(
                f"a {cls.__qualname__} does not return its state to pickle. Keep what it computed in arrays."
            )
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        node = self._encode_making(cls, make, arguments)
        if state is not None:
            node["state"] = self._encode_state(state)
        if items is not None and (held := list(items)):
            node["items"] = self._encode_list(held)
        if pairs is not None and (members := list(pairs)):
            node["pairs"] = [[self.encode(key), self._encode_at(f"[{key!r}]", item)] for key, item in members]
        return node

    def _encode_making(self, cls: type, make: Any, arguments: tuple[Any, ...]) -> dict[str, Json]:
        if make is copyreg.__newobj__:  # type: ignore[attr-defined]
            made, given = {"class": class_name(arguments[0])}, arguments[1:]
        elif isinstance(make, type):
            made, given = {"call": class_name(make)}, arguments
        elif is_reconstructor(make):
            made, given = {"call": function_name(make)}, arguments
        else:
            raise SaveRefused(
                f"{cls.__qualname__} is made by {getattr(make, '__qualname__', make)}, which is not called for an "
                "artifact. Give the class __getstate__ and __setstate__ instead of __reduce__."
            )
        return {**made, "arguments": self._encode_list(given)} if given else dict(made)

    def _encode_state(self, state: Any) -> Json:
        if type(state) is not dict or TAG in state or not all(type(key) is str and is_utf8(key) for key in state):
            self._kept_alive.append(state)
            return self.encode(state)
        kept = ((name, item) for name, item in state.items() if name != VERSION_ATTRIBUTE)
        clean = {name: 0 if name in _ADDRESSES else item for name, item in kept}
        return self._encode_members(clean, ".{}")


def _advice(value: Any, cls: type) -> str:
    """Return the reason why an object is refused, and a remedy."""
    name = f"{module_name(cls)}.{cls.__qualname__}"
    if callable(getattr(value, "read", None)) or callable(getattr(value, "acquire", None)):
        return (
            f"a {name} belongs to this process. Open it in the method that uses it, and leave it out in __getstate__."
        )
    if name == "builtins.module":
        return f"it is the module {value.__name__}. Import it in the method that uses it."
    return (
        f"a {name} is neither an estimator, nor part of scikit-learn, of a library that depends on it, or of your own "
        "code. Keep what it computed in arrays, built-in types or a dataclass."
    )
