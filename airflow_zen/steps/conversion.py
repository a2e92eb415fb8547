"""Conversion of arguments to their declared types: artifacts are loaded, texts and JSON converted by pydantic."""

from __future__ import annotations

import ast
import atexit
import collections.abc
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, time, timezone
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, is_typeddict

from airflow_zen.artifacts.ref import REF_MARKER
from airflow_zen.errors import InputError, TypeMismatch
from airflow_zen.materializers.annotations import batch_type, contains_path, is_stream_annotation, strip_annotation
from airflow_zen.steps.conformance import ValuePath, are_identical, coerce, has_schema, typed_dict_types
from airflow_zen.steps.outputs import runtime_class
from airflow_zen.type_names import display_name, type_name, walk_types

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.stack import Stack

_MAX_SHOWN = 100
_CONSTRAINTS = frozenset({"annotated_types", "pydantic"})
_TEXT_LIKE = (collections.abc.Sequence, collections.abc.Collection)
"""Types that a text has, though its declaration means a list."""


def process_directory(stack: Stack) -> Path:
    """Return a directory that lives as long as the process: a loaded value may map its files into memory."""
    directory = stack.store.temporary_directory()
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def load_for_process(stack: Stack, ref: ArtifactRef, wanted: Any) -> Any:
    """Load a value as `load_as_type` does, for as long as the process lives."""
    directory = process_directory(stack)
    value = load_as_type(stack, ref, directory, wanted)
    if ref.inline and ref.encoding.startswith("python.json@") and not contains_path(wanted):
        shutil.rmtree(directory, ignore_errors=True)
    with suppress(OSError):
        # Most values leave nothing in it; what is fetched later creates it again.
        directory.rmdir()
    return value


def load_as_type(stack: Stack, ref: ArtifactRef, into: Path, wanted: Any, name: str = "") -> Any:
    """Return the value of a ref as `Stack.load` does, checked against the type `wanted`; numbers are widened.

    `name` denotes the value in errors. Raises `InputError` for a value that neither has the wanted type nor that view.
    None and batches, which are read one by one, are not checked.
    """
    if isinstance(wanted, str):
        raise InputError(f"Pass the type itself, such as pandas.DataFrame, got the text {wanted!r}.")
    value = stack.load(ref, into, wanted)
    name = name or f"artifact {ref.name or ref.digest[:12]}"
    declared = strip_annotation(wanted)
    if value is None or is_stream_annotation(declared):
        return _conforming_batches(value, batch_type(declared), name) if has_schema(batch_type(declared)) else value
    return _hold_constraints(coerce(value, wanted, ValuePath(name, is_input=True)), wanted, name)


def _conforming_batches(batches: Iterator[Any], declared: Any, name: str) -> Iterator[Any]:
    for number, batch in enumerate(batches):
        yield coerce(batch, declared, ValuePath(f"{name}[{number}]", is_input=True))


def convert_argument(value: Any, declared: Any, parameter: str) -> Any:
    """Return a plain argument as its declared type; raise `InputError` if it cannot be converted.

    A conforming value is returned unchanged, and a number is widened without loss. A text, and a JSON value for a
    container, a dataclass or a pydantic model, is converted. A value declared as a class without a JSON form, such as
    an array, is only checked if it is None or a text. Constraints of pydantic in the declaration apply to every value.
    `parameter` denotes the value in errors: `scores[3]`.
    """
    return _hold_constraints(_convert_argument(value, declared, parameter), declared, parameter)


def _convert_argument(value: Any, declared: Any, parameter: str) -> Any:
    inner = strip_annotation(declared)
    if declared is None or type(value) is inner or is_stream_annotation(inner):
        return value
    is_list_as_text = isinstance(value, str) and runtime_class(inner) in _TEXT_LIKE
    if not is_list_as_text:
        with suppress(TypeMismatch):
            return coerce(value, declared, ValuePath(parameter, is_input=True))
    try:
        return _convert(value, declared)
    except ValueError as error:
        if is_list_as_text and get_args(inner) in ((), (str,)):
            return value
        raise _conversion_error(value, declared, parameter, str(error)) from None


def _hold_constraints(value: Any, declared: Any, parameter: str) -> Any:
    """Return a value validated by the constraints of its declaration: `Annotated[int, Field(gt=3)]`, `annotated_types`.

    Raises `InputError` for a value that violates them.
    """
    try:
        return _constrain(value, declared)
    except ValueError as error:
        wanted = display_name(strip_annotation(declared))
        raise InputError(f"{parameter} is declared {wanted}, got {_shown(value)}: {error}.") from None


def _constrain(value: Any, declared: Any, place: str = "") -> Any:
    """Return a value validated by its constraints; raise `ValueError` with the place inside it, and the reason.

    The values of a `TypedDict` are validated one by one: pydantic supports `typing.TypedDict` from Python 3.12 on.
    """
    if not _has_constraints(declared):
        return value
    if type(value) not in (dict, list, tuple) or not any(map(is_typeddict, walk_types(declared))):
        return _validate(value, declared, place)
    inner = strip_annotation(declared)
    types: Mapping[Any, Any] = typed_dict_types(inner) if is_typeddict(inner) else {}
    items = value if isinstance(value, dict) else dict(enumerate(value))
    held = {
        key: _constrain(item, types[key] if types else _type_at(inner, at), f"{place}{key}.")
        for at, (key, item) in enumerate(items.items())
    }
    if not are_identical(items.values(), held.values()):
        value = held if isinstance(value, dict) else type(value)(held.values())
    marks = getattr(declared, "__metadata__", ())
    return _validate(value, Annotated[(type(value), *marks)], place) if marks else value


def _type_at(declared: Any, at: int) -> Any:
    """Return the declared type, with its constraints, of an element of a list, tuple or dict."""
    arguments = get_args(declared)
    if get_origin(declared) is tuple and Ellipsis not in arguments:
        return arguments[at]
    return next((each for each in reversed(arguments) if each is not Ellipsis), None)


def _validate(value: Any, declared: Any, place: str) -> Any:
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

    adapter: Any
    try:
        adapter = TypeAdapter(declared, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticUserError, TypeError):
        adapter = _type_adapter(declared)
    try:
        return value if adapter is None else adapter.validate_python(value)
    except ValidationError as error:
        reason = _first_reason(error)
        raise ValueError(f"{place.removesuffix('.')}: {reason}" if place else reason) from None


def _has_constraints(declared: Any, around: frozenset[Any] = frozenset()) -> bool:
    """Whether pydantic or `annotated_types` constrain a type or one inside it; `around`: enclosing `TypedDict`s."""
    marks = (type(mark).__module__.partition(".")[0] for mark in getattr(declared, "__metadata__", ()))
    if any(mark in _CONSTRAINTS for mark in marks):
        return True
    # NewType, and an alias.
    behind = (getattr(declared, name, None) for name in ("__supertype__", "__value__"))
    inside = (*get_args(declared), *filter(None, behind))
    if is_typeddict(declared) and declared not in around:
        around, inside = around | {declared}, tuple(typed_dict_types(declared).values())
    return any(_has_constraints(each, around) for each in inside)


def _convert(value: Any, declared: Any) -> Any:
    """Return a value as pydantic converts it; raise `ValueError` with pydantic's reason."""
    from pydantic import ValidationError

    adapter, reason = _type_adapter(declared), ""
    if adapter is None and value is not None and not isinstance(value, str):
        return value
    for candidate in _candidates(value):
        try:
            if adapter is not None:
                return _with_standard_zones(adapter.validate_python(candidate))
            if candidate is not value:
                return coerce(candidate, declared, ValuePath("", is_input=True))
        except ValidationError as error:
            reason = reason or _first_reason(error)
        except TypeMismatch:
            continue
    raise ValueError(reason)


def _candidates(value: Any) -> Iterator[Any]:
    """Yield the forms to convert: a text as it is, then as JSON and as a Python literal; a container as it is."""
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        yield value
    if isinstance(value, str):
        yield value
        for parse in (json.loads, ast.literal_eval):
            try:
                yield parse(value.strip())
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue


@lru_cache
def _type_adapter(declared: Any) -> Any:
    """Return pydantic's adapter of a type; None for a type that pydantic does not read from JSON."""
    from pydantic import PydanticUserError, TypeAdapter

    try:
        return TypeAdapter(declared)
    except (PydanticUserError, NameError, TypeError):
        return None


def _first_reason(error: Any) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else str(first["msg"])


def _with_standard_zones(value: Any) -> Any:
    """Replace the time zones of pydantic, which other libraries do not support, by Python's own."""
    if isinstance(value, datetime | time) and type(value.tzinfo).__module__.startswith("pydantic"):
        offset = value.utcoffset()
        return value if offset is None else value.replace(tzinfo=timezone(offset))
    if type(value) is dict:
        return {key: _with_standard_zones(held) for key, held in value.items()}
    return type(value)(map(_with_standard_zones, value)) if type(value) in (list, tuple, set) else value


def _conversion_error(value: Any, declared: Any, parameter: str, reason: str) -> InputError:
    wanted = display_name(strip_annotation(declared))
    if value is None:
        return InputError(
            f"{parameter} is declared {wanted}, got None, as from an upstream task that was skipped or returned nothing. "
            f"Declare it '{wanted} | None' and handle None, or keep the trigger rule 'all_success'."
        )
    if isinstance(value, str) and REF_MARKER in value:
        return InputError(
            f"{parameter} is declared {wanted}, got an artifact's ref as text, as a template makes it. Pass the output "
            "of the step itself, as in train(load()), or set render_template_as_native_obj=True on the DAG."
        )
    because = f" ({reason})" if reason else ""
    hint = f"Pass a value of that type, or declare {type_name(type(value)).removeprefix('builtins.')}."
    if strip_annotation(declared) is str:
        hint = f"{hint} Where templates are rendered as Python values, quotes keep a text: \"'{{{{ params.code }}}}'\"."
    return InputError(f"{parameter} is declared {wanted}, got {_shown(value)}{because}. {hint}")


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}…"
