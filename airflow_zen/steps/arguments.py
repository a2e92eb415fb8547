"""The arguments of one execution: parameters, and the artifacts among and inside them."""

from __future__ import annotations

import inspect
import math
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, time, timedelta
from enum import Enum
from pathlib import Path
from types import FunctionType, GenericAlias
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec.structs import replace

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.materializers.annotations import element_type, strip_annotation
from airflow_zen.type_names import python_scalar

if TYPE_CHECKING:
    from airflow_zen.stack import Stack

_MAX_TEXT = 500


class Selectors(Protocol):
    """Look up the artifacts that selectors of versions stand for, when the step runs."""

    def is_selector(self, value: object) -> bool:
        """Whether a value is a selector."""

    def resolve(self, value: Any, path: str) -> ArtifactRef:
        """Return the ref of the version that the argument of a path selects. Raises `ZenError` where there is none."""


class InputDigest(msgspec.Struct, frozen=True):
    """Replace an artifact inside an argument when the argument is fingerprinted."""

    digest: str


class Arguments(msgspec.Struct, frozen=True):
    """Bound arguments by parameter name, with refs instead of artifacts.

    `bound` is complete, defaults included. `inputs` are the refs by path: `frame`, `frames[2]`,
    `config.model`. `context` has the names of the arguments that Airflow's context filled in, `task_context` all of that
    context. `selected` says of inputs, by path, which version of which model was asked for.
    """

    bound: inspect.BoundArguments
    inputs: Mapping[str, ArtifactRef]
    context: frozenset[str] = msgspec.field(default=frozenset())
    task_context: Mapping[str, Any] = msgspec.field(default_factory=dict)
    selected: Mapping[str, str] = msgspec.field(default_factory=dict)

    @classmethod
    def bind(
        cls,
        function: Callable[..., Any],
        args: Collection[Any],
        kwargs: Mapping[str, Any],
        context: frozenset[str] = frozenset(),
        selectors: Selectors | None = None,
        type_of: Callable[[str], Any] | None = None,
    ) -> Arguments:
        """Bind a call, and read every ref in it from its wire form; look up the versions that `selectors` knows.

        With `type_of`, which returns the declared type of a parameter, plain arguments are converted to it; it is not
        asked about artifacts. Raises `TypeError` as the call would, `InputError` for an argument of another type,
        `ArtifactRefused` for a malformed ref, `ArtifactNotFound` for a version that does not exist.
        """
        bound = inspect.signature(function).bind(*args, **kwargs)
        given = list(bound.arguments)
        bound.apply_defaults()
        arguments = cls(bound, _resolve_all(bound, selectors), context)
        for name in given:
            if type_of and not _is_only_refs(bound.arguments[name]) and not arguments._is_given_as_is(name):
                bound.arguments[name] = arguments._convert(name, type_of(name))
        return arguments

    @classmethod
    def from_bound(cls, bound: inspect.BoundArguments, context: frozenset[str]) -> Arguments:
        """Return complete arguments that were converted before."""
        return cls(bound, _resolve_all(bound, None), context)

    def parameters(self) -> dict[str, Any]:
        """Return the arguments that are not artifacts, as JSON for the record; artifacts inside appear by digest.

        What Airflow's context filled in is left out, except for texts, numbers and dates such as `ds` or `logical_date`.
        """
        found = {}
        for name, value in self.bound.arguments.items():
            if name in self.context and not (value is None or isinstance(value, str | int | date)):
                continue
            if self.bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                given = {key: held for key, held in value.items() if key not in self.context}
                found[name] = describe_as_json(given)
            elif not _is_only_refs(value):
                found[name] = describe_as_json(value)
        return found

    def by_name(self) -> dict[str, Any]:
        """Return all arguments by name, including those of `**options`; `*args` are one tuple."""
        found = dict(self.bound.arguments)
        for name, parameter in self.bound.signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD and name in found:
                found |= found.pop(name)
        return found

    def keyword_context(self) -> dict[str, Any]:
        """Return what Airflow's context filled in as `**context`."""
        kinds = {name: parameter.kind for name, parameter in self.bound.signature.parameters.items()}
        held = [value for name, value in self.bound.arguments.items() if kinds[name] is inspect.Parameter.VAR_KEYWORD]
        return {name: value for each in held for name, value in each.items() if name in self.context}

    def excluding(self, names: Collection[str]) -> Arguments:
        """Return the arguments without those of these names, also in `**options`."""
        kept = {name: value for name, value in self.bound.arguments.items() if name not in names}
        for name, parameter in self.bound.signature.parameters.items():
            if name in kept and parameter.kind is parameter.VAR_KEYWORD:
                kept[name] = {key: value for key, value in kept[name].items() if key not in names}
        paths: dict[str, Any] = {}
        for name, value in kept.items():
            _collect_types(value, None, name, paths)
        inputs = {path: ref for path, ref in self.inputs.items() if path in paths}
        return replace(self, bound=inspect.BoundArguments(self.bound.signature, kept), inputs=inputs)

    def requested_types(self, types: Mapping[str, Any]) -> dict[str, Any]:
        """Return the declared type of each input by its path, from the declared types of the parameters."""
        found: dict[str, Any] = {}
        for name, value in self.bound.arguments.items():
            _collect_types(value, self._declared_type(name, types), name, found)
        return found

    def load(self, stack: Stack, types: Mapping[str, Any], scratch: Path) -> inspect.BoundArguments:
        """Replace refs by values, loaded concurrently, each as its declared type; raise `InputError` for another type."""
        from airflow_zen.steps.conversion import load_as_type

        wanted = self.requested_types(types)

        def load(ref: ArtifactRef, path: str) -> Any:
            into = Path(tempfile.mkdtemp(prefix=f"{ref.digest[:12]}-", dir=scratch))
            return load_as_type(stack, ref, into, wanted[path], f"parameter {path!r}")

        with ThreadPoolExecutor(8) as pool:
            loading = {path: pool.submit(load, ref, path) for path, ref in self.inputs.items()}
            loaded = {path: future.result() for path, future in loading.items()}
        arguments = {
            name: _replace_refs(value, lambda _, path: loaded[path], name)
            for name, value in self.bound.arguments.items()
        }
        return inspect.BoundArguments(self.bound.signature, arguments)

    def _is_given_as_is(self, name: str) -> bool:
        """Whether a parameter's argument is not converted: Airflow's context filled it in, or it is None by default."""
        is_default = self.bound.arguments[name] is None and self.bound.signature.parameters[name].default is None
        return name in self.context or is_default

    def _convert(self, name: str, declared: Any) -> Any:
        """Return a parameter's argument as its declared type, except for what Airflow's context filled in."""
        parameter, value = self.bound.signature.parameters[name], self.bound.arguments[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            return tuple(_convert_plain(held, declared, f"{name}[{at}]") for at, held in enumerate(value))
        if parameter.kind is parameter.VAR_KEYWORD:
            plain = {key: _convert_plain(held, declared, key) for key, held in value.items() if key not in self.context}
            return {**value, **plain}
        return _convert_plain(value, declared, name)

    def _declared_type(self, name: str, types: Mapping[str, Any]) -> Any:
        """Return a parameter's type; `*args: T` is a tuple of T, `**kwargs: T` a dict of T."""
        declared, kind = types.get(name), self.bound.signature.parameters[name].kind
        if declared is not None and kind is inspect.Parameter.VAR_POSITIONAL:
            return GenericAlias(tuple, (declared, ...))
        if declared is not None and kind is inspect.Parameter.VAR_KEYWORD:
            return GenericAlias(dict, (str, declared))
        return declared


def _is_only_refs(value: Any) -> bool:
    """Whether a value is an artifact, or a container of nothing but artifacts."""
    if type(value) is dict:
        value = list(value.values())
    if type(value) in (list, tuple) and value:
        return all(_is_only_refs(element) for element in value)
    return isinstance(value, ArtifactRef)


def replace_refs_by_digest(value: Any) -> Any:
    """Replace refs by their digests, the only part of a ref that enters a cache key."""
    if isinstance(value, set | frozenset):
        return type(value)(replace_refs_by_digest(element) for element in value)
    return _replace_refs(value, lambda ref, _: InputDigest(ref.digest), "")


def describe_as_json(value: Any) -> Any:
    """Return an argument as JSON for people: exact if JSON is, else a short text."""
    value = python_scalar(value)
    if value is None or (isinstance(value, bool | int | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, ArtifactRef):
        return f"artifact {value.digest[:12]}"
    if isinstance(value, Mapping):
        return {str(key): describe_as_json(held) for key, held in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [describe_as_json(element) for element in value]
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta | Enum | Path):
        return str(value)
    return _short_repr(value)


def _short_repr(value: Any) -> str:
    if isinstance(value, FunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    if type(value).__name__ == "Connection" and type(value).__module__.startswith("airflow."):
        return f"connection {value.conn_id!r}"
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a value that cannot describe itself is no reason to fail the step
        text = object.__repr__(value)
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"


def _resolve_all(bound: inspect.BoundArguments, selectors: Selectors | None) -> dict[str, ArtifactRef]:
    """Replace the wire refs in bound arguments by refs; return those by path."""
    inputs: dict[str, ArtifactRef] = {}
    for name, value in bound.arguments.items():
        bound.arguments[name] = _resolve_refs(value, name, inputs, selectors)
    return inputs


def _resolve_refs(value: Any, path: str, inputs: dict[str, ArtifactRef], selectors: Selectors | None) -> Any:
    """Replace wire refs by refs, at any depth of lists, tuples and dicts; replace lazy sequences by lists."""
    if selectors and selectors.is_selector(value):
        value = selectors.resolve(value, path)
    if ArtifactRef.is_wire(value):
        value = ArtifactRef.from_wire(value)
    if isinstance(value, ArtifactRef):
        inputs[path] = value
        return value
    if isinstance(value, Sequence) and type(value).__module__.startswith("airflow."):
        # What Airflow passes for mapped upstream tasks.
        # A slice of them is one request; iteration is one request for each, and one more.
        value = value[:] if type(value).__name__ == "LazyXComSequence" else list(value)
    return map_elements(value, path, lambda held, inner, _: _resolve_refs(held, inner, inputs, selectors))


def _convert_plain(value: Any, declared: Any, path: str) -> Any:
    """Return an argument as its declared type; beside artifacts in a container, its elements."""
    if declared is None or type(value) is declared or isinstance(value, ArtifactRef):
        return value
    from airflow_zen.steps.conversion import convert_argument

    if _contains_ref(value):
        return map_elements(
            value,
            path,
            lambda held, inner, at: None if held is None else _convert_plain(held, element_type(declared, at), inner),
        )
    return convert_argument(value, declared, f"parameter {path!r}")


def _contains_ref(value: Any) -> bool:
    if type(value) not in (list, tuple, dict):
        return isinstance(value, ArtifactRef)
    return any(map(_contains_ref, value.values() if type(value) is dict else value))


def _replace_refs(value: Any, replacement: Callable[[ArtifactRef, str], Any], path: str) -> Any:
    if isinstance(value, ArtifactRef):
        return replacement(value, path)
    return map_elements(value, path, lambda held, inner, _: _replace_refs(held, replacement, inner))


def _collect_types(value: Any, declared: Any, path: str, found: dict[str, Any]) -> None:
    """Add the declared type of every ref inside a value to `found`, by its path."""
    if isinstance(value, ArtifactRef):
        found[path] = strip_annotation(declared)
        return
    map_elements(value, path, lambda held, inner, at: _collect_types(held, element_type(declared, at), inner, found))


def map_elements(value: Any, path: str, visit: Callable[[Any, str, int], Any]) -> Any:
    """Return a copy of a list, tuple or dict made of `visit(element, path, position)`; anything else as it is."""
    if type(value) is dict:
        items = value.items()
        return {key: visit(held, f"{path}{_path_segment(key)}", at) for at, (key, held) in enumerate(items)}
    if type(value) is list:
        return [visit(held, f"{path}[{at}]", at) for at, held in enumerate(value)]
    if isinstance(value, tuple):
        held = [visit(element, f"{path}[{at}]", at) for at, element in enumerate(value)]
        if type(value) is tuple:
            return tuple(held)
        return type(value)(*held) if hasattr(value, "_fields") else value
    return value


def _path_segment(key: Any) -> str:
    return f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"
