"""Typed, framed hashing of plain Python values, and the folding of fingerprints into one cache key."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import PurePath
from types import BuiltinFunctionType, ModuleType
from typing import Any

from airflow_zen.errors import FingerprintError
from airflow_zen.labels import class_label

# Raise it when a change here or in airflow_zen.caching gives other fingerprints: old entries then miss.
KEY_VERSION = 1

_LENGTH = struct.Struct(">Q").pack

Other = Callable[[Any], "str | None"]
Meet = Callable[[type], None]


def fingerprint(value: object, other: Other | None = None, meet: Meet | None = None) -> str:
    """Hash a value with its type and structure; the same in every process and on every machine.

    `other` gives the fingerprint of a value of an unknown type, or None. `meet` is told every class
    that is not a builtin and that the value is made of. Mappings and sets hash without their order,
    NaN equals NaN, 0.0 and -0.0 differ. Raises `FingerprintError` for what is unknown, endless or cyclic.
    """
    try:
        return sha256(_Walk(other, meet).token(value)).hexdigest()
    except RecursionError as error:
        raise FingerprintError(_refusal(value, "it is nested too deeply")) from error


def fold(ingredients: Mapping[str, str]) -> str:
    """Fold labelled fingerprints into one cache key, whatever their order."""
    parts = (part for label in sorted(ingredients) for part in (label, ingredients[label]))
    return sha256(frame(f"key {KEY_VERSION}", *(_text(part) for part in parts))).hexdigest()


def frame(tag: str, *parts: bytes) -> bytes:
    """Join parts so that no other tag or division into parts gives the same bytes."""
    return b"".join([piece for part in (tag.encode(), *parts) for piece in (_LENGTH(len(part)), part)])


class _Walk:
    """One walk through a value: who to ask, who to tell, and which containers are open."""

    def __init__(self, other: Other | None, meet: Meet | None) -> None:
        self.other = other
        self.meet = meet
        self.open: set[int] = set()

    def token(self, value: Any) -> bytes:
        """Give the unambiguous bytes of a value."""
        if isinstance(value, type):
            return _class(self, value)
        cls = type(value)
        if cls in _ATOMS:
            return _ATOMS[cls](self, value)
        handler, home = _handler_of(cls)  # type: ignore[arg-type]  # mypy doubts that classes hash
        if id(value) in self.open:
            raise FingerprintError(_refusal(value, "it contains itself"))
        self.open.add(id(value))
        try:
            return self._enter(value, cls, handler, home)
        finally:
            self.open.discard(id(value))

    def _enter(self, value: Any, cls: type, handler: _Handler, home: type | None) -> bytes:
        self.meets(cls)
        if home is cls or handler in (_enum, _path, _generic, _constant):
            return handler(self, value)
        state = instance_state(value)
        parts = (_text(class_label(cls)), handler(self, value), _mapping(self, state) if state else b"")
        return frame("instance", *parts)

    def meets(self, cls: type) -> None:
        """Tell the caller of a class that the value is made of."""
        if self.meet is not None and cls.__module__ != "builtins":
            self.meet(cls)

    def tokens(self, values: Iterable[Any]) -> Iterator[bytes]:
        """Give the bytes of each value."""
        return (self.token(value) for value in values)


_Handler = Callable[[_Walk, Any], bytes]


@lru_cache(maxsize=1024)
def _handler_of(cls: type) -> tuple[_Handler, type | None]:
    """Find who hashes a class: the handler of its nearest known base, and that base."""
    names = {f"{base.__module__}.{base.__qualname__}": base for base in cls.__mro__}
    for name in _FIRST.keys() & names.keys():
        return _FIRST[name], names[name]
    for name, base in names.items():
        if name in _HANDLERS:
            return _HANDLERS[name], base
    structured = ("__dataclass_fields__", "__attrs_attrs__", "__pydantic_fields__", "__struct_fields__")
    return (_nothing, None) if any(hasattr(cls, name) for name in structured) else (_unknown, cls)


def instance_state(value: Any) -> dict[str, Any]:
    """Collect what an instance holds beyond its base class: its attributes and slots, without cached properties."""
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


def _text(text: str) -> bytes:
    return str.encode(text, "utf-8", "surrogatepass")


def _nothing(walk: _Walk, value: Any) -> bytes:
    return b""


def _unknown(walk: _Walk, value: Any) -> bytes:
    if hasattr(type(value), "__next__") or hasattr(type(value), "__await__"):
        raise FingerprintError(_refusal(value, "reading it would use it up"))
    answer = walk.other(value) if walk.other else None
    if answer is None:
        raise FingerprintError(_refusal(value, "its type is unknown"))
    return frame("other", _text(class_label(type(value))), _text(answer))


def _refusal(value: Any, reason: str) -> str:
    name = class_label(type(value)).removeprefix("builtins.")
    return (
        f"A value of type {name} cannot be fingerprinted: {reason}. "
        "Pass it as an artifact, pass a plain value, or set cache=False."
    )


def _constant(walk: _Walk, value: Any) -> bytes:
    return frame(repr(value))


# Framed once: values of these types come by the million.
_INT, _STR, _FLOAT, _ITEM = (frame(tag) for tag in ("int", "str", "float", "item"))


def _integer(walk: _Walk, value: int) -> bytes:
    digits = f"{value:x}".encode()
    return _INT + _LENGTH(len(digits)) + digits


def _real(number: float) -> bytes:
    return b"nan" if number != number else struct.pack(">d", number)


def _float(walk: _Walk, value: float) -> bytes:
    number = _real(value)
    return _FLOAT + _LENGTH(len(number)) + number


def _complex(walk: _Walk, value: complex) -> bytes:
    return frame("complex", _real(value.real), _real(value.imag))


def _string(walk: _Walk, value: str) -> bytes:
    text = _text(value)
    return _STR + _LENGTH(len(text)) + text


def _bytes(walk: _Walk, value: bytes | bytearray) -> bytes:
    tag = "bytes" if isinstance(value, bytes) else "bytearray"
    return frame(tag, sha256(value).digest())


def _memoryview(walk: _Walk, value: memoryview) -> bytes:
    return frame("memoryview", _text(value.format), walk.token(value.shape), sha256(value.tobytes()).digest())


def _array(walk: _Walk, value: Any) -> bytes:
    return frame("array", _text(value.typecode), sha256(value.tobytes()).digest())


def _digest(tag: str, parts: Iterable[bytes]) -> bytes:
    """Shrink a container to one digest, so that nesting does not copy bytes again at every level."""
    digest = sha256()
    for part in parts:
        digest.update(_LENGTH(len(part)) + part)
    return frame(tag, digest.digest())


def _sequence(tag: str) -> _Handler:
    return lambda walk, value: _digest(tag, walk.tokens(value))


def _unordered(tag: str) -> _Handler:
    return lambda walk, value: _digest(tag, sorted(walk.tokens(value)))


def _mapping(walk: _Walk, value: Mapping[Any, Any]) -> bytes:
    return _digest("dict", sorted(_items(walk, value)))


def _items(walk: _Walk, value: Mapping[Any, Any]) -> Iterator[bytes]:
    for key, item in value.items():
        name, content = walk.token(key), walk.token(item)
        yield _ITEM + _LENGTH(len(name)) + name + _LENGTH(len(content)) + content


def _ordered_dict(walk: _Walk, value: Mapping[Any, Any]) -> bytes:
    return _digest("OrderedDict", _items(walk, value))


def _counter(walk: _Walk, value: Mapping[Any, Any]) -> bytes:
    return _digest("Counter", sorted(_items(walk, value)))


def _defaultdict(walk: _Walk, value: Any) -> bytes:
    return frame("defaultdict", walk.token(value.default_factory), _mapping(walk, value))


def _deque(walk: _Walk, value: Any) -> bytes:
    return frame("deque", walk.token(value.maxlen), _digest("deque", walk.tokens(value)))


def _fields(tag: str, *names: str) -> _Handler:
    """Hash a value as the attributes that define it."""
    return lambda walk, value: frame(tag, *walk.tokens(getattr(value, name) for name in names))


def _as_text(tag: str) -> _Handler:
    return lambda walk, value: frame(tag, _text(str(value)))


def _timezone(walk: _Walk, value: Any) -> bytes:
    return frame("timezone", walk.token(value.utcoffset(None)), walk.token(value.tzname(None)))


def _zone(walk: _Walk, value: Any) -> bytes:
    if value.key is None:
        raise FingerprintError(_refusal(value, "the zone has no key"))
    return frame("ZoneInfo", walk.token(value.key))


def _path(walk: _Walk, value: PurePath) -> bytes:
    return frame("path", b"\\" if "Windows" in type(value).__name__ else b"/", _text(str(value)))


def _enum(walk: _Walk, value: Any) -> bytes:
    return frame("Enum", _text(class_label(type(value))), _text(str(value.name)), walk.token(value.value))


def _class(walk: _Walk, value: type) -> bytes:
    walk.meets(value)
    return frame("class", _text(class_label(value)))


def _generic(walk: _Walk, value: Any) -> bytes:
    """Hash `list[int]` and its kind by origin and arguments."""
    origin = getattr(value, "__origin__", None)
    arguments = (*value.__args__, *getattr(value, "__metadata__", ()))
    return frame("generic", walk.token(origin) if origin else b"|", *walk.tokens(arguments))


def _builtin_function(walk: _Walk, value: BuiltinFunctionType) -> bytes:
    bound = value.__self__ if not isinstance(value.__self__, (ModuleType, type(None))) else None
    return frame("builtin", _text(f"{value.__module__}.{value.__qualname__}"), walk.token(bound))


def _ndarray(walk: _Walk, value: Any) -> bytes:
    return frame("ndarray", _dtype(walk, value.dtype), walk.token(value.shape), _elements(walk, value))


def _elements(walk: _Walk, array: Any) -> bytes:
    if array.dtype.fields:
        # Field by field: the padding between fields holds whatever lay in memory.
        return _digest("fields", (_ndarray(walk, array[name]) for name in array.dtype.names))
    if array.dtype.kind in "OT":
        return _digest("elements", walk.tokens(array.ravel(order="C").tolist()))
    return sha256(array.ravel(order="C").view("u1").data).digest() if array.size else b""


def _dtype(walk: _Walk, value: Any) -> bytes:
    return frame("dtype", _text(repr(value.descr) if value.fields else value.str))


def _scalar(walk: _Walk, value: Any) -> bytes:
    content = b"nan" if value.dtype.kind in "fc" and value != value else _elements(walk, value.reshape(1))
    return frame("numpy", _dtype(walk, value.dtype), content)


def _masked(walk: _Walk, value: Any) -> bytes:
    return frame("masked", _ndarray(walk, value.filled()), walk.token(value.fill_value), walk.token(value.mask))


def _generator_state(walk: _Walk, value: Any) -> bytes:
    try:
        state = value.getstate() if hasattr(value, "getstate") else value.bit_generator.state
    except NotImplementedError as error:
        raise FingerprintError(_refusal(value, "it has no state")) from error
    return frame("generator", _text(class_label(type(value))), walk.token(state))


def _namespace(walk: _Walk, value: Any) -> bytes:
    return frame("namespace", _mapping(walk, vars(value)))


# Found anywhere among the bases, these decide alone.
_FIRST: dict[str, _Handler] = {
    "enum.Enum": _enum,
    "numpy.generic": _scalar,
    "numpy.dtype": _dtype,
    "numpy.ma.MaskedArray": _masked,
}

# By the name of the class, so that nothing is imported for a value that never comes.
_HANDLERS: dict[str, _Handler] = {
    "builtins.NoneType": _constant,
    "builtins.bool": _constant,
    "builtins.ellipsis": _constant,
    "builtins.NotImplementedType": _constant,
    "builtins.int": _integer,
    "builtins.float": _float,
    "builtins.complex": _complex,
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
    "builtins.range": _fields("range", "start", "stop", "step"),
    "builtins.slice": _fields("slice", "start", "stop", "step"),
    "builtins.builtin_function_or_method": _builtin_function,
    "types.GenericAlias": _generic,
    "types.UnionType": _generic,
    "typing._GenericAlias": _generic,
    "typing._SpecialForm": _constant,
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": _defaultdict,
    "collections.Counter": _counter,
    "collections.deque": _deque,
    "array.array": _array,
    "datetime.datetime": _fields(
        "datetime", "year", "month", "day", "hour", "minute", "second", "microsecond", "fold", "tzinfo"
    ),
    "datetime.date": _fields("date", "year", "month", "day"),
    "datetime.time": _fields("time", "hour", "minute", "second", "microsecond", "fold", "tzinfo"),
    "datetime.timedelta": _fields("timedelta", "days", "seconds", "microseconds"),
    "datetime.timezone": _timezone,
    "zoneinfo.ZoneInfo": _zone,
    "decimal.Decimal": _as_text("Decimal"),
    "fractions.Fraction": _fields("Fraction", "numerator", "denominator"),
    "uuid.UUID": _fields("UUID", "int"),
    "re.Pattern": _fields("Pattern", "pattern", "flags"),
    "pathlib.PurePath": _path,
    "pathlib._local.PurePath": _path,
    "types.SimpleNamespace": _namespace,
    "random.Random": _generator_state,
    "numpy.random._generator.Generator": _generator_state,
    "numpy.ndarray": _ndarray,
}

# The usual ones, without a search and without a watch for cycles.
_ATOMS: dict[type, _Handler] = {
    cls: _HANDLERS[f"builtins.{cls.__name__}"] for cls in (type(None), bool, int, float, complex, str, bytes, bytearray)
}
