"""Hold a value against its declared type, widening only where nothing is lost."""

from __future__ import annotations

import collections.abc
import inspect
import typing
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NotRequired,
    Protocol,
    Required,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
from msgspec.structs import replace

from airflow_zen.errors import InputError, OutputError, TypeMismatch, ZenError
from airflow_zen.materializers.annotations import batch_type, is_stream_annotation, is_union, strip_annotation
from airflow_zen.steps.annotations import runtime_class
from airflow_zen.type_names import type_name

_NUMBERS = (bool, int, float, complex)
_WRAPPERS = (Annotated, Required, NotRequired, Final)


def coerce(value: Any, declared: Any, path: ValuePath) -> Any:
    """Give `value` as the declared type; raises `OutputError` or `InputError` when it is another one, as `path` has it.

    An int becomes a declared float, a numpy scalar the declared Python value; so do the elements of lists,
    sets, tuples and dicts. A protocol is held to the names of its members, a `TypedDict` to its keys and their types,
    a type variable to its bound. What exists for type checkers only is not checked.
    """
    declared = _unwrap_type(declared)
    if declared is None or declared is typing.Any or declared is object:
        return value
    if is_union(declared):
        return _coerce_to_union(value, get_args(declared), declared, path)
    if get_origin(declared) is Literal:
        return _check_literal(value, declared, path)
    if typing.is_typeddict(declared):
        return coerce_fields(_require_class(value, dict, declared, path), declared, path, coerce)
    return _coerce_to_class(value, runtime_class(declared), declared, path)


def _coerce_to_class(value: Any, expected: type | None, declared: Any, path: ValuePath) -> Any:
    if expected is None or _is_instance(value, expected):
        return coerce_elements(_numpy_to_python(value, expected), declared, path, coerce)
    widened = _widen_number(value, expected)
    return widened if widened is not None else _require_class(value, expected, declared, path)


def _require_class(value: Any, expected: type, declared: Any, path: ValuePath) -> Any:
    """Give a value of an expected class; raises a `TypeMismatch` for any other."""
    if _is_instance(value, expected):
        return value
    raise path.type_error(type_display_name(declared), f"{type(value).__module__}.{type(value).__qualname__}")


def _unwrap_type(declared: Any) -> Any:
    """Give the type behind `Annotated`, `NewType`, an alias, or a type variable, which may have bounds."""
    if get_origin(declared) in _WRAPPERS:
        return _unwrap_type(get_args(declared)[0])
    if isinstance(declared, TypeVar):
        choices = declared.__constraints__
        return _unwrap_type(Union[choices] if choices else declared.__bound__)  # noqa: UP007 - of as many as there are
    for behind in ("__supertype__", "__value__"):
        if type(declared).__module__ == "typing" and hasattr(declared, behind):
            return _unwrap_type(getattr(declared, behind))
    return declared


def _coerce_to_union(value: Any, choices: tuple[Any, ...], declared: Any, path: ValuePath) -> Any:
    """Take the first choice that the value is, with all its elements, else the narrowest number it can be widened to."""
    choices = tuple(map(_unwrap_type, choices))
    mismatch: TypeMismatch | None = None
    for choice in choices:
        if not _matches_choice(value, choice):
            continue
        try:
            return coerce(value, choice, path)
        except TypeMismatch as error:
            mismatch = mismatch or error
    classes = set(map(runtime_class, choices))
    for expected in (kind for kind in _NUMBERS if kind in classes):
        if (widened := _widen_number(value, expected)) is not None:
            return widened
    raise mismatch or path.type_error(declared, type(value).__qualname__)


def _matches_choice(value: Any, choice: Any) -> bool:
    if get_origin(choice) is Literal:
        return _is_literal_value(value, choice)
    expected = dict if typing.is_typeddict(choice) else runtime_class(choice)
    return expected is None or _is_instance(value, expected)


def _check_literal(value: Any, declared: Any, path: ValuePath) -> Any:
    if not _is_literal_value(value, declared):
        raise path.type_error(declared, repr(value))
    return value


def _is_literal_value(value: Any, literal: Any) -> bool:
    return any(type(value) is type(choice) and value == choice for choice in get_args(literal))


def _is_instance(value: Any, expected: type) -> bool:
    try:
        # A DAG file that was imported twice has two classes of one name.
        return isinstance(value, expected) or type_name(expected) in map(type_name, type(value).__mro__)
    except TypeError:
        return not is_protocol(expected) or implements(value, expected)


def _numpy_to_python(value: Any, expected: type | None) -> Any:
    """Give a numpy scalar that happens to be a Python value too (np.float64, np.str_) as the declared one."""
    if expected in (float, complex, str, bytes) and type(value).__module__ == "numpy":
        return expected(value)
    return value


def _widen_number(value: Any, expected: type | None) -> Any:
    """Give a number as the declared kind of number; None where that would lose something."""
    if expected not in _NUMBERS or (isinstance(value, bool) and expected is not bool):
        return None
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
        if type(value) is expected:
            return value
    if expected in (float, complex) and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            widened = expected(value)
        except OverflowError:
            return None
        return widened if widened == value else None
    return None


class ValuePath(msgspec.Struct, frozen=True):
    """An output that a function returned, or a value within it, such as `scores[3]`."""

    name: str

    def at(self, step: str) -> Self:
        """Go to a place within."""
        return replace(self, name=f"{self.name}{step}")

    def type_error(self, declared: object, actual: str) -> TypeMismatch:
        """Say that something else came than what is declared."""
        return OutputError(f"output '{self.name}' is declared {declared}, but the function returned {actual}.")


class InputPath(ValuePath, frozen=True):
    """A parameter that an artifact was loaded for, or a value within that."""

    def type_error(self, declared: object, actual: str) -> TypeMismatch:
        """Say that the artifact has no such view."""
        return InputError(
            f"{self.name} is asked for as {declared}, but its artifact holds {actual}, which has no such view. Ask for what "
            "it holds, or for no type, and convert it there."
        )


def type_display_name(declared: Any) -> str:
    """Write a class, or a declared type, for people."""
    return str(getattr(declared, "__qualname__", declared))


Coerce = Callable[[Any, Any, ValuePath], Any]

_ONE_TYPE_CONTAINERS = (list, tuple, set, frozenset, deque)
_PLAIN_CONTAINERS = (list, tuple, set, frozenset)
_MAPPINGS = (dict, OrderedDict, defaultdict, collections.abc.Mapping, collections.abc.MutableMapping)


def coerce_elements(value: Any, declared: Any, path: ValuePath, coerce: Coerce) -> Any:
    """Give a `list[T]`, `Sequence[T]`, `tuple[…]`, `dict[K, V]` and their like with each element as declared.

    The very value comes back where nothing had to be widened. An element that does not fit is named by its
    place: `scores[3]`. Containers of users' own classes are taken as they are, and so are iterators.
    """
    origin, arguments = get_origin(declared), get_args(declared)
    if not arguments and declared not in (tuple[()], typing.Tuple[()]):  # noqa: UP006 - that is another object
        return value
    if isinstance(origin, type) and type_name(origin) == "numpy.ndarray":
        return _check_dtype(value, arguments[-1], path)
    if origin is tuple and isinstance(value, tuple):
        return _coerce_sequence(value, _tuple_types(value, declared, path), path, coerce)
    if origin is Counter and type(value) is Counter:
        return _coerce_mapping(value, arguments[0], int, path, coerce)
    if origin in _MAPPINGS and isinstance(value, dict):
        return _coerce_mapping(value, arguments[0], arguments[1], path, coerce)
    if type(value) in _ONE_TYPE_CONTAINERS and len(arguments) == 1:
        return _coerce_sequence(value, arguments * len(value), path, coerce)
    return value


def _check_dtype(value: Any, dtype: Any, path: ValuePath) -> Any:
    """Give an array as declared by `NDArray[np.float64]`; what is no class of NumPy's says nothing of it."""
    wanted: Any = next(iter(get_args(dtype)), None)
    if getattr(wanted, "__module__", "") == "numpy" and not issubclass(value.dtype.type, wanted):
        raise path.type_error(f"an array of {type_name(wanted)}", f"one of {value.dtype}")
    return value


def coerce_fields(value: Any, declared: Any, path: ValuePath, coerce: Coerce) -> Any:
    """Give a dict with the keys that a `TypedDict` has, and each value as declared; raises a `TypeMismatch`."""
    missing, extra = declared.__required_keys__ - set(value), set(value) - set(declared.__annotations__)
    if missing or extra:
        what = f"without {sorted(missing)}" if missing else f"with {sorted(map(str, extra))}"
        raise path.type_error(type_display_name(declared), f"a dict {what}")
    hints = _field_hints(declared)
    coerced = {key: coerce(item, hints.get(key), path.at(f"[{key!r}]")) for key, item in value.items()}
    return value if _are_identical(value.values(), coerced.values()) else coerced


def _field_hints(declared: Any) -> Mapping[str, Any]:
    try:
        return get_type_hints(declared, include_extras=True)
    except Exception:  # noqa: BLE001 - a name that exists for type checkers only can fail in any way
        return {}


def _tuple_types(value: Any, declared: Any, path: ValuePath) -> tuple[Any, ...]:
    """Give the type of each place; `tuple[A, *tuple[B, ...]]` has as many of B as there are left."""
    arguments, length = get_args(declared), len(value)
    if Ellipsis in arguments:
        return (arguments[0],) * length
    for at, argument in enumerate(arguments):
        many = get_args(argument)
        if getattr(argument, "__unpacked__", False) and Ellipsis in many:
            between = length - len(arguments) + 1
            arguments = (*arguments[:at], *(many[0],) * between, *arguments[at + 1 :])
            break
    if len(arguments) != length:
        raise path.type_error(declared, f"a tuple of {length}")
    return arguments


def _coerce_sequence(value: Any, declared: tuple[Any, ...], path: ValuePath, coerce: Coerce) -> Any:
    if len(set(map(id, declared))) == 1 and _all_of_class(value, declared[0]):
        return value
    places = zip(value, declared, strict=True)
    coerced = [coerce(item, wanted, path.at(f"[{at}]")) for at, (item, wanted) in enumerate(places)]
    if _are_identical(value, coerced):
        return value
    if type(value) in _PLAIN_CONTAINERS:
        return type(value)(coerced)
    return deque(coerced, value.maxlen) if type(value) is deque else value


def _coerce_mapping(value: dict[Any, Any], key: Any, item: Any, path: ValuePath, coerce: Coerce) -> Any:
    if _all_of_class(value, key) and _all_of_class(value.values(), item):
        return value
    coerced = {
        coerce(one, key, path.at(" key")): coerce(other, item, path.at(f"[{one!r}]")) for one, other in value.items()
    }
    if _are_identical(value, coerced) and _are_identical(value.values(), coerced.values()):
        return value
    if type(value) is defaultdict:
        return defaultdict(value.default_factory, coerced)
    return type(value)(coerced) if type(value) in (dict, OrderedDict, Counter) else value


def _are_identical(value: Iterable[Any], coerced: Iterable[Any]) -> bool:
    return all(one is other for one, other in zip(value, coerced, strict=True))


def _all_of_class(items: Iterable[Any], declared: Any) -> bool:
    """Tell at C speed that all are of exactly the declared class, which has no elements of its own."""
    return not get_args(declared) and set(map(type, items)) <= {runtime_class(declared)}


def is_protocol(declared: Any) -> bool:
    """Tell whether a declared class is a protocol itself, not one that only implements it."""
    return bool(vars(declared).get("_is_protocol", False)) if isinstance(declared, type) else False


def implements(value: Any, protocol: Any) -> bool:
    """Tell whether a value has the members of a protocol; their types are not seen."""
    return all(_has_member(value, name) for name in _protocol_members(protocol))


def _protocol_members(protocol: Any) -> set[str]:
    bases = (base for base in protocol.__mro__ if is_protocol(base) and base is not Protocol)
    named = {name for base in bases for name in (*vars(base), *vars(base).get("__annotations__", ()))}
    return {name for name in named if not name.startswith("_") or name == "__call__"}


def _has_member(value: Any, name: str) -> bool:
    try:
        inspect.getattr_static(value, name)
    except AttributeError:
        return hasattr(value, name)
    return True


class BatchError(ZenError):
    """The step's own code raised while its next batch was asked for; its error is the cause."""


def coerce_output(value: Any, declared: Any, name: str) -> Any:
    """Hold a returned value against its declared type; an iterator's batches one by one, when they are asked for."""
    value = coerce(value, declared, ValuePath(name))
    if isinstance(value, Iterator) and (declared is None or is_stream_annotation(declared)):
        return _coerce_batches(value, strip_annotation(batch_type(declared)), name)
    return value


def _coerce_batches(batches: Iterator[Any], declared: Any, name: str) -> Iterator[Any]:
    number = 0
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except Exception as error:
            raise BatchError(f"batch {number} of output {name!r} could not be made") from error
        yield coerce(batch, declared, ValuePath(f"{name}[{number}]"))
        number += 1
