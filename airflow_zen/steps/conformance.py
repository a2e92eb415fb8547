"""Check values against declared types, and convert numbers where nothing is lost."""

from __future__ import annotations

import collections.abc
import inspect
import typing
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Protocol, Self, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import replace

from airflow_zen.errors import InputError, OutputError, TypeMismatch, ZenError
from airflow_zen.materializers.annotations import batch_type, element_type, is_stream_annotation, strip_annotation
from airflow_zen.steps.outputs import Outputs, runtime_class
from airflow_zen.type_names import base_names, display_name, is_union, python_scalar, type_name

_NUMBERS = (bool, int, float, complex)
_WRAPPERS = (Annotated, typing.Required, typing.NotRequired, Final)
_MAX_FAILURES = 5
_PLAIN_CONTAINERS = (list, tuple, set, frozenset)
_MAPPINGS = (dict, OrderedDict, defaultdict, collections.abc.Mapping, collections.abc.MutableMapping)


class ValuePath(msgspec.Struct, frozen=True):
    """The place of a value in errors: an output, or a value within it (`scores[3]`); with `is_input` a parameter."""

    name: str
    is_input: bool = False

    def at(self, step: str) -> Self:
        """Return the path of a value within."""
        return replace(self, name=f"{self.name}{step}")

    def type_error(self, declared: object, actual: str) -> TypeMismatch:
        """Return the error for a value of another type than declared, or for an artifact without the declared view."""
        if not self.is_input:
            return OutputError(
                f"output '{self.name}' is declared {declared}, but the function returned {actual}. Return the declared type, "
                "or correct the annotation."
            )
        return InputError(
            f"{self.name} is asked for as {declared}, but its artifact holds {actual}, which has no such view. Ask for what "
            "it holds, or for no type, and convert it there."
        )

    def schema_error(self, schema: str, failures: list[str], count: int) -> TypeMismatch:
        """Return the error for a frame that fails checks of its schema, with a description of some of them."""
        cls, what = (InputError, self.name) if self.is_input else (OutputError, f"output '{self.name}'")
        more = f"; and {count - len(failures)} more" if count > len(failures) else ""
        return cls(
            f"{what} is declared with the schema {schema}, and does not conform: {'; '.join(failures)}{more}. Fix the rows, or "
            f"check them in a step of their own, validate(…, Pandera({schema})), which goes on after a failure if it may."
        )


class BatchError(ZenError):
    """The step's own code failed while it made its next batch; the original error is the cause."""


def unpack_result(result: Any, outputs: Outputs, types: Mapping[str, Any], step: str) -> dict[str, Any]:
    """Split a result by output, and convert each value to its declared type before anything is stored."""
    try:
        values = outputs.by_name(result)
        if outputs.each:
            ((name, whole),) = values.items()
            values = {f"{name}[{at}]": element for at, element in enumerate(whole)}
            types = {held: element_type(types[name], at) for at, held in enumerate(values)}
        return {name: coerce_output(value, types[name], name) for name, value in values.items()}
    except OutputError as error:
        raise OutputError(f"Step {step!r}: {error}") from None


def coerce(value: Any, declared: Any, path: ValuePath) -> Any:
    """Return `value` as the declared type; raise `OutputError` or `InputError`, by `path`, if it does not conform.

    An int becomes a declared float, and a numpy scalar the declared Python value; the same holds for elements of lists,
    sets, tuples and dicts. A protocol is checked by the names of its members, a `TypedDict` by its keys and their
    types, a type variable by its bound. Types that exist for type checkers only are not checked.
    """
    declared = _unwrap_type(declared)
    if declared is None or declared is Any or declared is object:
        return value
    if is_union(declared):
        return _coerce_to_union(value, get_args(declared), declared, path)
    if get_origin(declared) is Literal:
        if not _is_literal_value(value, declared):
            raise path.type_error(declared, repr(value))
        return value
    if typing.is_typeddict(declared):
        return _coerce_fields(_require_class(value, dict, declared, path), declared, path)
    expected = runtime_class(declared)
    if expected is None or _is_instance(value, expected):
        if expected in (float, complex, str, bytes) and type(value).__module__ == "numpy":
            # A numpy scalar that is a Python value too: np.float64, np.str_.
            value = expected(value)
        return _coerce_elements(_apply_schema(value, declared, path), declared, path)
    widened = _widen_number(value, expected)
    return widened if widened is not None else _require_class(value, expected, declared, path)


def coerce_output(value: Any, declared: Any, name: str) -> Any:
    """Return an output as its declared type; the batches of an iterator are checked when they are made."""
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


def _unwrap_type(declared: Any) -> Any:
    """Return the type behind `Annotated`, `NewType`, an alias, or a type variable, which may have bounds."""
    if get_origin(declared) in _WRAPPERS:
        return _unwrap_type(get_args(declared)[0])
    if isinstance(declared, TypeVar):
        choices = declared.__constraints__
        return _unwrap_type(Union[choices] if choices else declared.__bound__)  # noqa: UP007 - of as many as there are
    for behind in ("__supertype__", "__value__"):
        if type(declared).__module__ == "typing" and hasattr(declared, behind):
            return _unwrap_type(getattr(declared, behind))
    return declared


def has_schema(declared: Any) -> bool:
    """Whether a declared type is a frame with a pandera model: `pandera.typing.DataFrame[Model]`."""
    module, arguments = getattr(get_origin(declared), "__module__", ""), get_args(declared)
    return module.startswith("pandera.typing.") and hasattr(arguments[0], "to_schema")


def _apply_schema(value: Any, declared: Any, path: ValuePath) -> Any:
    """Return a frame as validated by the pandera model of its declared type; raise an error with the failed checks."""
    if not has_schema(declared):
        return value
    from airflow_zen.validation.pandera import conform

    (model,) = get_args(declared)
    value, failures = conform(value, model)
    if failures:
        raise path.schema_error(
            model.__name__, [_failure_text(check) for check in failures[:_MAX_FAILURES]], len(failures)
        )
    return value


def _failure_text(check: Any) -> str:
    rows = "" if check.failing is None else f" in {check.failing} rows"
    first = f", first at {check.sample[0].label!r}: {check.sample[0].value}" if check.sample else ""
    seen = f" ({check.observed})" if check.observed else ""
    return f"{check.title} fails{rows}{first}{seen}"


def _require_class(value: Any, expected: type, declared: Any, path: ValuePath) -> Any:
    if _is_instance(value, expected):
        return value
    raise path.type_error(display_name(declared), type_name(type(value)))


def _coerce_to_union(value: Any, choices: tuple[Any, ...], declared: Any, path: ValuePath) -> Any:
    """Return a value as the first choice that it conforms to, else as the narrowest number it can be widened to."""
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
    raise mismatch or path.type_error(declared, type_name(type(value)))


def _matches_choice(value: Any, choice: Any) -> bool:
    if get_origin(choice) is Literal:
        return _is_literal_value(value, choice)
    expected = dict if typing.is_typeddict(choice) else runtime_class(choice)
    return expected is None or _is_instance(value, expected)


def _is_literal_value(value: Any, literal: Any) -> bool:
    return any(type(value) is type(choice) and value == choice for choice in get_args(literal))


def _is_instance(value: Any, expected: type) -> bool:
    try:
        # A DAG file that was imported twice has two classes of one name.
        return isinstance(value, expected) or type_name(expected) in base_names(type(value))
    except TypeError:
        return not _is_protocol(expected) or all(_has_member(value, name) for name in _protocol_members(expected))


def _is_protocol(declared: Any) -> bool:
    """Whether a class is a protocol itself, not one that only implements it."""
    return bool(vars(declared).get("_is_protocol", False))


def _protocol_members(protocol: Any) -> set[str]:
    bases = (base for base in protocol.__mro__ if _is_protocol(base) and base is not Protocol)
    named = {name for base in bases for name in (*vars(base), *vars(base).get("__annotations__", ()))}
    return {name for name in named if not name.startswith("_") or name == "__call__"}


def _has_member(value: Any, name: str) -> bool:
    # A property is not read where the class has it.
    return inspect.getattr_static(value, name, _has_member) is not _has_member or hasattr(value, name)


def _widen_number(value: Any, expected: type | None) -> Any:
    """Return a number as the declared kind of number; None if it would lose precision."""
    if expected not in _NUMBERS or (isinstance(value, bool) and expected is not bool):
        return None
    value = python_scalar(value)
    if type(value) is expected:
        return value
    if expected in (float, complex) and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            widened = expected(value)
        except OverflowError:
            return None
        return widened if widened == value else None
    return None


def _coerce_elements(value: Any, declared: Any, path: ValuePath) -> Any:
    """Return a `list[T]`, `Sequence[T]`, `tuple[…]`, `dict[K, V]` or similar with each element as declared.

    The same object is returned if no element was converted. An error names the element by its path: `scores[3]`.
    Containers of users' own classes and iterators are not checked.
    """
    origin, arguments = get_origin(declared), get_args(declared)
    if not arguments and declared not in (tuple[()], typing.Tuple[()]):  # noqa: UP006 - that is another object
        return value
    if isinstance(origin, type) and type_name(origin) == "numpy.ndarray":
        return _check_dtype(value, arguments[-1], path)
    if origin is tuple and isinstance(value, tuple):
        return _coerce_sequence(value, _tuple_types(value, declared, path), path)
    if origin is Counter and type(value) is Counter:
        return _coerce_mapping(value, arguments[0], int, path)
    if origin in _MAPPINGS and isinstance(value, dict):
        return _coerce_mapping(value, arguments[0], arguments[1], path)
    if type(value) in (*_PLAIN_CONTAINERS, deque) and len(arguments) == 1:
        return _coerce_sequence(value, arguments * len(value), path)
    return value


def _check_dtype(value: Any, dtype: Any, path: ValuePath) -> Any:
    """Return an array if it conforms to `NDArray[np.float64]`; dtypes that are no classes of NumPy are not checked."""
    wanted: Any = next(iter(get_args(dtype)), None)
    if getattr(wanted, "__module__", "") == "numpy" and not issubclass(value.dtype.type, wanted):
        raise path.type_error(f"an array of {type_name(wanted)}", f"one of {value.dtype}")
    return value


def _coerce_fields(value: Any, declared: Any, path: ValuePath) -> Any:
    """Return a dict with the keys that a `TypedDict` has, and each value as declared."""
    missing, extra = declared.__required_keys__ - set(value), set(value) - set(declared.__annotations__)
    if missing or extra:
        what = f"without {sorted(missing)}" if missing else f"with {sorted(map(str, extra))}"
        raise path.type_error(display_name(declared), f"a dict {what}")
    types = typed_dict_types(declared)
    coerced = {key: coerce(item, types.get(key), path.at(f"[{key!r}]")) for key, item in value.items()}
    return value if are_identical(value.values(), coerced.values()) else coerced


def typed_dict_types(declared: Any) -> Mapping[str, Any]:
    """Return the declared type of each key of a `TypedDict`; empty if a name exists for type checkers only."""
    try:
        hints = get_type_hints(declared, include_extras=True)
    except Exception:  # noqa: BLE001 - such a name can fail in any way
        return {}
    is_wrapped = {key: get_origin(hint) in (typing.Required, typing.NotRequired) for key, hint in hints.items()}
    return {key: get_args(hint)[0] if is_wrapped[key] else hint for key, hint in hints.items()}


def _tuple_types(value: Any, declared: Any, path: ValuePath) -> tuple[Any, ...]:
    """Return the type of each position; in `tuple[A, *tuple[B, ...]]` B is repeated for the remaining positions."""
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


def _coerce_sequence(value: Any, declared: tuple[Any, ...], path: ValuePath) -> Any:
    if len(set(map(id, declared))) == 1 and _all_of_class(value, declared[0]):
        return value
    elements = zip(value, declared, strict=True)
    coerced = [coerce(item, wanted, path.at(f"[{at}]")) for at, (item, wanted) in enumerate(elements)]
    if are_identical(value, coerced):
        return value
    if type(value) in _PLAIN_CONTAINERS:
        return type(value)(coerced)
    return deque(coerced, value.maxlen) if type(value) is deque else value


def _coerce_mapping(value: dict[Any, Any], key: Any, item: Any, path: ValuePath) -> Any:
    if _all_of_class(value, key) and _all_of_class(value.values(), item):
        return value
    coerced = {
        coerce(one, key, path.at(" key")): coerce(other, item, path.at(f"[{one!r}]")) for one, other in value.items()
    }
    if are_identical(value, coerced) and are_identical(value.values(), coerced.values()):
        return value
    if type(value) is defaultdict:
        return defaultdict(value.default_factory, coerced)
    return type(value)(coerced) if type(value) in (dict, OrderedDict, Counter) else value


def are_identical(value: Iterable[Any], coerced: Iterable[Any]) -> bool:
    """Whether two collections of one length hold the same objects."""
    return all(one is other for one, other in zip(value, coerced, strict=True))


def _all_of_class(items: Iterable[Any], declared: Any) -> bool:
    """Whether all elements are of exactly the declared class, which has no elements; determined at C speed."""
    return not get_args(declared) and set(map(type, items)) <= {runtime_class(declared)}
