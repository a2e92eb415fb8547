"""Typed, framed hashing of plain Python values, and the combination of fingerprints into one cache key."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timezone
from functools import lru_cache
from hashlib import sha256
from itertools import chain
from pathlib import PurePath
from types import CodeType, ModuleType
from typing import Any

from airflow_zen.errors import FingerprintError
from airflow_zen.instance_parts import instance_attributes, own_functions, pickled_parts
from airflow_zen.type_names import stable_class_name

# Raise it when a change here or in airflow_zen.caching changes fingerprints: old entries then miss.
KEY_VERSION = 2

# Values of these ask a running Airflow.
_RUNTIME_LIBRARIES = ("airflow", "airflow_zen")

_pack_length = struct.Struct(">Q").pack

FingerprintFallback = Callable[[Any], "str | None"]
ClassCallback = Callable[[type], object]


def fingerprint(
    value: object,
    fallback: FingerprintFallback | None = None,
    on_class: ClassCallback | None = None,
    active: dict[int, int] | None = None,
) -> str:
    """Hash a value with its type and structure; the same in every process and on every machine.

    `fallback` returns the fingerprint of a value of an unknown type, or None. `on_class` is called with every class in
    the value that is not a builtin. A fallback that fingerprints what a value holds passes the same `active` again, the
    values that are being fingerprinted, so that a value may hold itself. The order of mappings and sets does not matter,
    NaN equals NaN, 0.0 and -0.0 differ. Raises `FingerprintError` for endless values, and for those of unknown types
    that cannot be pickled either.
    """
    try:
        return sha256(_ValueEncoder(fallback, on_class, {} if active is None else active).encode(value)).hexdigest()
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
    """The encoding of one value; `active` has the depth of each container that is being encoded."""

    def __init__(
        self, fallback: FingerprintFallback | None, on_class: ClassCallback | None, active: dict[int, int]
    ) -> None:
        self.fallback = fallback
        self.on_class = on_class
        self.active = active

    def encode(self, value: Any) -> bytes:
        """Return the unambiguous bytes of a value."""
        if isinstance(value, type):
            return _class(self, value)
        cls = type(value)
        if cls in _SCALAR_HANDLERS:
            return _SCALAR_HANDLERS[cls](self, value)
        handler, known_base = _handler_of(cls)  # type: ignore[arg-type]  # mypy doubts that classes hash
        if id(value) in self.active:
            return frame("cycle", b"%d" % self.active[id(value)])
        self.active[id(value)] = len(self.active)
        try:
            return self._encode_instance(value, cls, handler, known_base)
        finally:
            del self.active[id(value)]

    def _encode_instance(self, value: Any, cls: type, handler: _Handler, known_base: type | None) -> bytes:
        self.report_class(cls)
        if known_base is cls or handler in (_enum, _path, _constant, _reduced):
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


def _utf8(text: str) -> bytes:
    return str.encode(text, "utf-8", "surrogatepass")


def _unknown(encoder: _ValueEncoder, value: Any) -> bytes:
    if hasattr(type(value), "__next__") or hasattr(type(value), "__await__"):
        raise FingerprintError(_refusal_message(value, "reading it would use it up"))
    answer = encoder.fallback(value) if encoder.fallback else None
    if answer is None:
        return _reduced(encoder, value)
    return frame("other", _utf8(stable_class_name(type(value))), _utf8(answer))


def _reduced(encoder: _ValueEncoder, value: Any) -> bytes:
    """Hash an instance of a library's class by what pickle would rebuild it of."""
    cls = type(value)
    if cls is object or cls.__module__.partition(".")[0] in _RUNTIME_LIBRARIES:
        raise FingerprintError(_refusal_message(value, "its type is unknown"))
    try:
        parts = pickled_parts(value)
    except RecursionError:
        raise
    except Exception as error:
        raise FingerprintError(_refusal_message(value, f"its type is unknown, and {error}")) from error
    name = _utf8(stable_class_name(cls))
    if isinstance(parts, str):
        return frame("named", name, _named(encoder, value, parts))
    held: tuple[Any, ...] = parts[1:]
    if isinstance(parts.state, bytes):
        from airflow_zen.pickle_contents import pickled_definitions, pickled_structure

        inside = (pickled_structure(parts.state), *pickled_definitions(parts.state))
        held = (parts.arguments, inside[0], parts.elements, parts.items, *inside[1:])
    return frame("reduced", name, _rebuild_name(encoder, parts.rebuild), *encoder.encode_all(held))


def _named(encoder: _ValueEncoder, value: Any, name: str) -> bytes:
    """Hash what a module holds by that name, such as a function of numpy."""
    # Some put other objects, or None, in the place of a module.
    if not any(getattr(module, "__dict__", {}).get(name) is value for module in [*sys.modules.values()]):
        raise FingerprintError(_refusal_message(value, f"no module has it by its name {name!r}"))
    about = (getattr(value, "__module__", None), name, value.__doc__, instance_attributes(value))
    return frame("name", *encoder.encode_all(about))


def _rebuild_name(encoder: _ValueEncoder, rebuild: Any) -> bytes:
    """Return the name of the callable that rebuilds an object, or the code of one of the project."""
    if isinstance(rebuild, type):
        return encoder.encode(rebuild)
    if encoder.fallback and (answer := encoder.fallback(rebuild)):
        return _utf8(answer)
    named, owner = rebuild if hasattr(rebuild, "__qualname__") else type(rebuild), getattr(rebuild, "__self__", None)
    held = b"" if isinstance(owner, ModuleType) else encoder.encode(owner)
    return frame("function", _utf8(f"{named.__module__}.{named.__qualname__}"), held)


def _refusal_message(value: Any, reason: str) -> str:
    name = stable_class_name(type(value)).removeprefix("builtins.")
    return (
        f"A value of type {name} cannot be fingerprinted: {reason}. "
        "Make it inside the function, pass an artifact or a plain value, or set cache=False."
    )


def _constant(encoder: _ValueEncoder, value: Any) -> bytes:
    return frame(repr(value))


# Framed once: values contain millions of these.
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


def _path(encoder: _ValueEncoder, value: PurePath) -> bytes:
    return frame("path", b"\\" if "Windows" in type(value).__name__ else b"/", _utf8(str(value)))


def _enum(encoder: _ValueEncoder, value: Any) -> bytes:
    return frame("Enum", _utf8(stable_class_name(type(value))), _utf8(str(value.name)), encoder.encode(value.value))


def _class(encoder: _ValueEncoder, value: type) -> bytes:
    encoder.report_class(value)
    return frame("class", _utf8(stable_class_name(value)))


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


def _random_state(encoder: _ValueEncoder, value: Any) -> bytes:
    # The module's own is seeded by the system: it is a name, as in code that calls numpy.random.rand().
    is_global = value is getattr(sys.modules.get("numpy.random.mtrand"), "_rand", None)
    return frame("numpy.random") if is_global else _reduced(encoder, value)


def _attributes_without(*names: str) -> _Handler:
    """Hash an instance by its attributes, without those that hold what it computed or itself."""
    return lambda encoder, value: _mapping(encoder, {key: x for key, x in vars(value).items() if key not in names})


def _context_variable(encoder: _ValueEncoder, value: Any) -> bytes:
    try:
        return frame("ContextVar", _utf8(value.name), encoder.encode(value.get()))
    except LookupError:
        return frame("ContextVar", _utf8(value.name))


def _code_object(encoder: _ValueEncoder, value: Any) -> bytes:
    """Hash compiled code, such as that of a template, without its lines and file."""
    names = ("co_code", "co_consts", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_flags")
    counts = ("co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_exceptiontable")
    return frame("code", *encoder.encode_all(getattr(value, name, None) for name in (*names, *counts)))


def _template(encoder: _ValueEncoder, value: Any) -> bytes:
    """Hash a compiled Jinja template by its code, filters and globals."""
    codes = [each.__code__ for each in (value.root_render_func, *value.blocks.values())]
    if {"get_template", "select_template", "get_or_select_template"} & set(chain(*map(_code_names, codes))):
        raise FingerprintError(_refusal_message(value, "it reads other templates when it is rendered"))
    return frame("template", *encoder.encode_all((codes, value.environment, dict(value.globals))))


def _code_names(code: Any) -> Iterator[str]:
    yield from code.co_names
    yield from chain(*(_code_names(held) for held in code.co_consts if isinstance(held, CodeType)))


def _read_later(encoder: _ValueEncoder, value: Any) -> bytes:
    raise FingerprintError(_refusal_message(value, "its rows are not known before they are read"))


# These take precedence, wherever they are among the bases.
_OVERRIDING_HANDLERS: dict[str, _Handler] = {
    "enum.Enum": _enum,
    "numpy.generic": _numpy_scalar,
    "numpy.dtype": _numpy_dtype,
    "numpy.ma.MaskedArray": _masked_array,
}

# Types that pickle describes exactly, so that no materializer is asked.
_REDUCED = (
    "array.array", "builtins.range", "builtins.slice", "collections.deque", "datetime.date", "datetime.datetime",
    "datetime.time", "datetime.timedelta", "datetime.timezone", "decimal.Decimal", "fractions.Fraction",
    "numpy.random._generator.Generator", "random.Random", "re.Pattern", "types.GenericAlias",
    "types.SimpleNamespace", "types.UnionType", "typing._GenericAlias", "uuid.UUID", "zoneinfo.ZoneInfo",
)  # fmt: skip

# By the name of the class, so that no library is imported for it.
_HANDLERS: dict[str, _Handler] = {
    **dict.fromkeys(_REDUCED, _reduced),
    "builtins.NoneType": _constant,
    "builtins.bool": _constant,
    "builtins.ellipsis": _constant,
    "builtins.NotImplementedType": _constant,
    "typing._SpecialForm": _constant,
    "builtins.int": _integer,
    "builtins.float": _float,
    "builtins.complex": lambda encoder, value: frame("complex", _float_bytes(value.real), _float_bytes(value.imag)),
    "builtins.str": _string,
    **dict.fromkeys(("builtins.bytes", "builtins.bytearray"), _bytes),
    "builtins.memoryview": _memoryview,
    "builtins.tuple": _sequence("tuple"),
    "builtins.list": _sequence("list"),
    "builtins.set": _unordered("set"),
    "builtins.frozenset": _unordered("frozenset"),
    "builtins.dict": _mapping,
    "builtins.mappingproxy": _mapping,
    "collections.OrderedDict": lambda encoder, value: _digest("OrderedDict", _items(encoder, value)),
    "collections.defaultdict": lambda encoder, value: frame(
        "defaultdict", encoder.encode(value.default_factory), _mapping(encoder, value)
    ),
    "collections.Counter": lambda encoder, value: _digest("Counter", sorted(_items(encoder, value))),
    # The zone of a time in a pydantic model.
    "pydantic_core._pydantic_core.TzInfo": lambda encoder, value: encoder.encode(timezone(value.utcoffset(None))),
    "pathlib.PurePath": _path,
    "pathlib._local.PurePath": _path,
    "_thread._local": lambda encoder, value: frame("local", _mapping(encoder, vars(value))),
    "_contextvars.ContextVar": _context_variable,
    "weakref.ReferenceType": lambda encoder, value: encoder.encode(value()),
    "_struct.Struct": lambda encoder, value: frame("Struct", _utf8(value.format)),
    "builtins.code": _code_object,
    "configparser.RawConfigParser": _attributes_without("_proxies", "_converters"),
    "jinja2.environment.Template": _template,
    "jinja2.environment.Environment": _attributes_without("cache"),
    "pandera.api.function_dispatch.Dispatcher": lambda encoder, value: _digest(
        "check", encoder.encode_all([value.__name__, *own_functions(value)])
    ),
    "dask.base.DaskMethodsMixin": _read_later,
    "polars.lazyframe.frame.LazyFrame": _read_later,
    "pyarrow._dataset.Dataset": _read_later,
    "numpy.random.mtrand.RandomState": _random_state,
    "numpy.ndarray": _ndarray,
}

# The common types, without a search for the handler and without the check for cycles.
_SCALAR_HANDLERS: dict[type, _Handler] = {
    cls: _HANDLERS[f"builtins.{cls.__name__}"] for cls in (type(None), bool, int, float, complex, str, bytes, bytearray)
}
