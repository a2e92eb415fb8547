"""Typed, framed hashing of plain Python values, and the combination of fingerprints into one cache key."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timezone
from functools import lru_cache
from hashlib import sha256
from pathlib import PurePath
from types import BuiltinFunctionType, ModuleType
from typing import Any

from airflow_zen.errors import FingerprintError
from airflow_zen.type_names import stable_class_name

# Raise it when a change here or in airflow_zen.caching changes fingerprints: old entries then miss.
KEY_VERSION = 1

_pack_length = struct.Struct(">Q").pack

FingerprintFallback = Callable[[Any], "str | None"]
ClassCallback = Callable[[type], object]


def fingerprint(
    value: object, fallback: FingerprintFallback | None = None, on_class: ClassCallback | None = None
) -> str:
    """Hash a value with its type and structure; the same in every process and on every machine.

    `fallback` returns the fingerprint of a value of an unknown type, or None. `on_class` is called with every class in
    the value that is not a builtin. The order of mappings and sets does not matter, NaN equals NaN, 0.0 and -0.0
    differ. Raises `FingerprintError` for unknown, endless or cyclic values.
    """
    try:
        return sha256(_ValueEncoder(fallback, on_class).encode(value)).hexdigest()
    except RecursionError as error:
        raise FingerprintError(_refusal_message(value, "it is nested too deeply")) from error


def combine_fingerprints(ingredients: Mapping[str, str]) -> str:
    """Combine labeled fingerprints into one cache key, whatever their order."""
    parts = (part for label in sorted(ingredients) for part in (label, ingredients[label]))
    return sha256(frame(f"key {KEY_VERSION}", *(_utf8(part) for part in parts))).hexdigest()


def frame(tag: str, *parts: bytes) -> bytes:
    """Join parts with their lengths, so that no other tag or division into parts gives the same bytes."""
    return b"".join([piece for part in (tag.encode(), *parts) for piece in (_pack_length(len(part)), part)])


class _ValueEncoder:
    """The encoding of one value; `active_ids` are the containers that are being encoded."""

    def __init__(self, fallback: FingerprintFallback | None, on_class: ClassCallback | None) -> None:
        self.fallback = fallback
        self.on_class = on_class
        self.active_ids: set[int] = set()

    def encode(self, value: Any) -> bytes:
        """Return the unambiguous bytes of a value."""
        if isinstance(value, type):
            return _class(self, value)
        cls = type(value)
        if cls in _SCALAR_HANDLERS:
            return _SCALAR_HANDLERS[cls](self, value)
        handler, known_base = _handler_of(cls)  # type: ignore[arg-type]  # mypy doubts that classes hash
        if id(value) in self.active_ids:
            raise FingerprintError(_refusal_message(value, "it contains itself"))
        self.active_ids.add(id(value))
        try:
            return self._encode_instance(value, cls, handler, known_base)
        finally:
            self.active_ids.discard(id(value))

    def _encode_instance(self, value: Any, cls: type, handler: _Handler, known_base: type | None) -> bytes:
        self.report_class(cls)
        if known_base is cls or handler in (_enum, _path, _generic, _constant):
            return handler(self, value)
        state = instance_attributes(value)
        parts = (_utf8(stable_class_name(cls)), handler(self, value), _mapping(self, state) if state else b"")
        return frame("instance", *parts)

    def report_class(self, cls: type) -> None:
        """Call `on_class` with a class of the value that is not a builtin."""
        if self.on_class is not None and cls.__module__ != "builtins":
            self.on_class(cls)

    def encode_all(self, values: Iterable[Any]) -> Iterator[bytes]:
        """Yield the bytes of each value."""
        return (self.encode(value) for value in values)


_Handler = Callable[[_ValueEncoder, Any], bytes]


@lru_cache(maxsize=1024)
def _handler_of(cls: type) -> tuple[_Handler, type | None]:
    """Return the handler of a class's nearest known base, and that base."""
    names = {f"{base.__module__}.{base.__qualname__}": base for base in cls.__mro__}
    for name in _OVERRIDING_HANDLERS.keys() & names.keys():
        return _OVERRIDING_HANDLERS[name], names[name]
    for name, base in names.items():
        if name in _HANDLERS:
            return _HANDLERS[name], base
    structured = ("__dataclass_fields__", "__attrs_attrs__", "__pydantic_fields__", "__struct_fields__")
    return ((lambda *_: b""), None) if any(hasattr(cls, name) for name in structured) else (_unknown, cls)


def instance_attributes(value: Any) -> dict[str, Any]:
    """Return the attributes and slots of an instance, without cached properties."""
    cls = type(value)
    slots = [name for base in cls.__mro__ for name in _slots(base)]
    state = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    attributes = getattr(value, "__dict__", {})
    state.update({name: found for name, found in attributes.items() if not _is_cached_property(cls, name)})
    return state


def _slots(cls: type) -> list[str]:
    slots = cls.__dict__.get("__slots__", ()) if cls.__module__ != "builtins" else ()
    names = [slots] if isinstance(slots, str) else list(slots)
    private = f"_{cls.__name__.lstrip('_')}"
    mangled = [private + name if name.startswith("__") and not name.endswith("__") else name for name in names]
    return [name for name in mangled if name not in ("__dict__", "__weakref__", "__pydantic_fields_set__")]


def _is_cached_property(cls: type, name: str) -> bool:
    return type(getattr(cls, name, None)).__name__ == "cached_property"


def _utf8(text: str) -> bytes:
    return str.encode(text, "utf-8", "surrogatepass")


def _unknown(encoder: _ValueEncoder, value: Any) -> bytes:
    if hasattr(type(value), "__next__") or hasattr(type(value), "__await__"):
        raise FingerprintError(_refusal_message(value, "reading it would use it up"))
    answer = encoder.fallback(value) if encoder.fallback else None
    if answer is None:
        raise FingerprintError(_refusal_message(value, "its type is unknown"))
    return frame("other", _utf8(stable_class_name(type(value))), _utf8(answer))


def _refusal_message(value: Any, reason: str) -> str:
    name = stable_class_name(type(value)).removeprefix("builtins.")
    return (
        f"A value of type {name} cannot be fingerprinted: {reason}. "
        "Pass it as an artifact, pass a plain value, or set cache=False."
    )


def _constant(encoder: _ValueEncoder, value: Any) -> bytes:
    return frame(repr(value))


# Framed once: a value may contain millions of these types.
_INT_TAG, _STR_TAG, _FLOAT_TAG, _ITEM_TAG = (frame(tag) for tag in ("int", "str", "float", "item"))


def _integer(encoder: _ValueEncoder, value: int) -> bytes:
    digits = f"{value:x}".encode()
    return _INT_TAG + _pack_length(len(digits)) + digits


def _float_bytes(number: float) -> bytes:
    return b"nan" if number != number else struct.pack(">d", number)


def _float(encoder: _ValueEncoder, value: float) -> bytes:
    number = _float_bytes(value)
    return _FLOAT_TAG + _pack_length(len(number)) + number


def _string(encoder: _ValueEncoder, value: str) -> bytes:
    text = _utf8(value)
    return _STR_TAG + _pack_length(len(text)) + text


def _bytes(encoder: _ValueEncoder, value: bytes | bytearray) -> bytes:
    tag = "bytes" if isinstance(value, bytes) else "bytearray"
    return frame(tag, sha256(value).digest())


def _memoryview(encoder: _ValueEncoder, value: memoryview) -> bytes:
    return frame("memoryview", _utf8(value.format), encoder.encode(value.shape), sha256(value.tobytes()).digest())


def _digest(tag: str, parts: Iterable[bytes]) -> bytes:
    """Reduce a container to one digest, so that nesting does not copy bytes at every level."""
    digest = sha256()
    for part in parts:
        digest.update(_pack_length(len(part)) + part)
    return frame(tag, digest.digest())


def _sequence(tag: str) -> _Handler:
    return lambda encoder, value: _digest(tag, encoder.encode_all(value))


def _unordered(tag: str) -> _Handler:
    return lambda encoder, value: _digest(tag, sorted(encoder.encode_all(value)))


def _mapping(encoder: _ValueEncoder, value: Mapping[Any, Any]) -> bytes:
    return _digest("dict", sorted(_items(encoder, value)))


def _items(encoder: _ValueEncoder, value: Mapping[Any, Any]) -> Iterator[bytes]:
    for key, item in value.items():
        name, content = encoder.encode(key), encoder.encode(item)
        yield _ITEM_TAG + _pack_length(len(name)) + name + _pack_length(len(content)) + content


def _by_attributes(tag: str, *names: str) -> _Handler:
    """Hash a value by the attributes that define it."""
    return lambda encoder, value: frame(tag, *encoder.encode_all(getattr(value, name) for name in names))


def _zone_info(encoder: _ValueEncoder, value: Any) -> bytes:
    if value.key is None:
        raise FingerprintError(_refusal_message(value, "the zone has no key"))
    return frame("ZoneInfo", encoder.encode(value.key))


def _path(encoder: _ValueEncoder, value: PurePath) -> bytes:
    return frame("path", b"\\" if "Windows" in type(value).__name__ else b"/", _utf8(str(value)))


def _enum(encoder: _ValueEncoder, value: Any) -> bytes:
    return frame("Enum", _utf8(stable_class_name(type(value))), _utf8(str(value.name)), encoder.encode(value.value))


def _class(encoder: _ValueEncoder, value: type) -> bytes:
    encoder.report_class(value)
    return frame("class", _utf8(stable_class_name(value)))


def _generic(encoder: _ValueEncoder, value: Any) -> bytes:
    """Hash types such as `list[int]` by origin and arguments."""
    origin = getattr(value, "__origin__", None)
    arguments = (*value.__args__, *getattr(value, "__metadata__", ()))
    return frame("generic", encoder.encode(origin) if origin else b"|", *encoder.encode_all(arguments))


def _builtin_function(encoder: _ValueEncoder, value: BuiltinFunctionType) -> bytes:
    bound = value.__self__ if not isinstance(value.__self__, (ModuleType, type(None))) else None
    return frame("builtin", _utf8(f"{value.__module__}.{value.__qualname__}"), encoder.encode(bound))


def _ndarray(encoder: _ValueEncoder, value: Any) -> bytes:
    return frame("ndarray", _numpy_dtype(encoder, value.dtype), encoder.encode(value.shape), _elements(encoder, value))


def _elements(encoder: _ValueEncoder, array: Any) -> bytes:
    if array.dtype.fields:
        # Field by field: the padding between fields contains arbitrary bytes.
        return _digest("fields", (_ndarray(encoder, array[name]) for name in array.dtype.names))
    if array.dtype.kind in "OT":
        return _digest("elements", encoder.encode_all(array.ravel(order="C").tolist()))
    return sha256(array.ravel(order="C").view("u1").data).digest() if array.size else b""


def _numpy_dtype(encoder: _ValueEncoder, value: Any) -> bytes:
    return frame("dtype", _utf8(repr(value.descr) if value.fields else value.str))


def _numpy_scalar(encoder: _ValueEncoder, value: Any) -> bytes:
    content = b"nan" if value.dtype.kind in "fc" and value != value else _elements(encoder, value.reshape(1))
    return frame("numpy", _numpy_dtype(encoder, value.dtype), content)


def _masked_array(encoder: _ValueEncoder, value: Any) -> bytes:
    return frame(
        "masked", _ndarray(encoder, value.filled()), encoder.encode(value.fill_value), encoder.encode(value.mask)
    )


def _generator_state(encoder: _ValueEncoder, value: Any) -> bytes:
    try:
        state = value.getstate() if hasattr(value, "getstate") else value.bit_generator.state
    except NotImplementedError as error:
        raise FingerprintError(_refusal_message(value, "it has no state")) from error
    return frame("generator", _utf8(stable_class_name(type(value))), encoder.encode(state))


# These take precedence, wherever they are among the bases.
_OVERRIDING_HANDLERS: dict[str, _Handler] = {
    "enum.Enum": _enum,
    "numpy.generic": _numpy_scalar,
    "numpy.dtype": _numpy_dtype,
    "numpy.ma.MaskedArray": _masked_array,
}

# By the name of the class, so that no library is imported for it.
_HANDLERS: dict[str, _Handler] = {
    "builtins.NoneType": _constant,
    "builtins.bool": _constant,
    "builtins.ellipsis": _constant,
    "builtins.NotImplementedType": _constant,
    "builtins.int": _integer,
    "builtins.float": _float,
    "builtins.complex": lambda encoder, value: frame("complex", _float_bytes(value.real), _float_bytes(value.imag)),
    "builtins.str": _string,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "builtins.memoryview": _memoryview,
    "builtins.tuple": _sequence("tuple"),
    "builtins.list": _sequence("list"),
    "builtins.set": _unordered("set"),
    "builtins.frozenset": _unordered("frozenset"),
    "builtins.dict": _mapping,
    "builtins.mappingproxy": _mapping,
    "builtins.range": _by_attributes("range", "start", "stop", "step"),
    "builtins.slice": _by_attributes("slice", "start", "stop", "step"),
    "builtins.builtin_function_or_method": _builtin_function,
    "types.GenericAlias": _generic,
    "types.UnionType": _generic,
    "typing._GenericAlias": _generic,
    "typing._SpecialForm": _constant,
    "collections.OrderedDict": lambda encoder, value: _digest("OrderedDict", _items(encoder, value)),
    "collections.defaultdict": lambda encoder, value: frame(
        "defaultdict", encoder.encode(value.default_factory), _mapping(encoder, value)
    ),
    "collections.Counter": lambda encoder, value: _digest("Counter", sorted(_items(encoder, value))),
    "collections.deque": lambda encoder, value: frame(
        "deque", encoder.encode(value.maxlen), _digest("deque", encoder.encode_all(value))
    ),
    "array.array": lambda encoder, value: frame("array", _utf8(value.typecode), sha256(value.tobytes()).digest()),
    "datetime.datetime": _by_attributes(
        "datetime", "year", "month", "day", "hour", "minute", "second", "microsecond", "fold", "tzinfo"
    ),
    "datetime.date": _by_attributes("date", "year", "month", "day"),
    "datetime.time": _by_attributes("time", "hour", "minute", "second", "microsecond", "fold", "tzinfo"),
    "datetime.timedelta": _by_attributes("timedelta", "days", "seconds", "microseconds"),
    "datetime.timezone": lambda encoder, value: frame(
        "timezone", *encoder.encode_all((value.utcoffset(None), value.tzname(None)))
    ),
    # The zone of a time in a pydantic model.
    "pydantic_core._pydantic_core.TzInfo": lambda encoder, value: encoder.encode(timezone(value.utcoffset(None))),
    "zoneinfo.ZoneInfo": _zone_info,
    "decimal.Decimal": lambda encoder, value: frame("Decimal", _utf8(str(value))),
    "fractions.Fraction": _by_attributes("Fraction", "numerator", "denominator"),
    "uuid.UUID": _by_attributes("UUID", "int"),
    "re.Pattern": _by_attributes("Pattern", "pattern", "flags"),
    "pathlib.PurePath": _path,
    "pathlib._local.PurePath": _path,
    "types.SimpleNamespace": lambda encoder, value: frame("namespace", _mapping(encoder, vars(value))),
    "random.Random": _generator_state,
    "numpy.random._generator.Generator": _generator_state,
    "numpy.ndarray": _ndarray,
}

# The common types, without a search for the handler and without the check for cycles.
_SCALAR_HANDLERS: dict[type, _Handler] = {
    cls: _HANDLERS[f"builtins.{cls.__name__}"] for cls in (type(None), bool, int, float, complex, str, bytes, bytearray)
}
