"""The arguments of one execution: parameters, and the artifacts found among and inside them."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.stack import Stack
from airflow_zen.steps.annotations import element_type

_TEXT_LIMIT = 500


@dataclass(frozen=True)
class InputDigest:
    """Stand for an artifact inside an argument when the argument is fingerprinted."""

    digest: str


@dataclass(frozen=True)
class Arguments:
    """Bound arguments by parameter name, with refs in the place of artifacts.

    `bound` is complete, defaults included. `inputs` are the refs by path: `frame`, `frames[2]`,
    `config.model`. `context` names the arguments that Airflow's context filled in.
    """

    bound: inspect.BoundArguments
    inputs: Mapping[str, ArtifactRef]
    context: frozenset[str] = field(default=frozenset())

    @classmethod
    def bind(
        cls,
        function: Callable[..., Any],
        args: Collection[Any],
        kwargs: Mapping[str, Any],
        context: frozenset[str] = frozenset(),
    ) -> Arguments:
        """Bind a call, and read every ref in it from its wire form.

        Raises `TypeError` as the call would, `ArtifactRefused` for a malformed ref.
        """
        bound = inspect.signature(function).bind(*args, **kwargs)
        bound.apply_defaults()
        inputs: dict[str, ArtifactRef] = {}
        for name, value in bound.arguments.items():
            bound.arguments[name] = _find(value, name, inputs)
        return cls(bound, inputs, context)

    def parameters(self) -> dict[str, Any]:
        """Give what is not an artifact, as JSON for the record; artifacts inside appear by digest.

        What Airflow's context filled in is left out, but for plain text such as `ds` or `run_id`.
        """
        found = {}
        for name, value in self.bound.arguments.items():
            if name in self.context and not isinstance(value, str):
                continue
            if self.bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                given = {key: held for key, held in value.items() if key not in self.context}
                found[name] = as_json(given)
            elif not _is_inputs_only(value):
                found[name] = as_json(value)
        return found

    def load(self, stack: Stack, types: Mapping[str, Any], scratch: Path) -> inspect.BoundArguments:
        """Put values in the place of refs, loaded concurrently, each as its parameter's declared type."""
        with ThreadPoolExecutor(8) as pool:
            loading = {
                name: _submit(value, types.get(name), pool, stack, scratch)
                for name, value in self.bound.arguments.items()
            }
            loaded = {name: _collect(value) for name, value in loading.items()}
        return inspect.BoundArguments(self.bound.signature, loaded)


def _is_inputs_only(value: Any) -> bool:
    """Tell whether a value is an artifact, or holds nothing else."""
    if type(value) is dict:
        value = list(value.values())
    if type(value) in (list, tuple) and value:
        return all(_is_inputs_only(element) for element in value)
    return isinstance(value, ArtifactRef)


def with_digests(value: Any) -> Any:
    """Replace refs by their digests, which is all that a cache key may know of an artifact."""
    return _replace(value, lambda ref: InputDigest(ref.digest))


def as_json(value: Any) -> Any:
    """Describe an argument as JSON for people: exact where JSON is, else a short text."""
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, ArtifactRef):
        return f"artifact {value.digest[:12]}"
    if isinstance(value, Mapping):
        return {str(key): as_json(held) for key, held in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(element) for element in value]
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta | Enum | Path):
        return str(value)
    text = repr(value)
    return text if len(text) <= _TEXT_LIMIT else f"{text[: _TEXT_LIMIT - 1]}…"


def _find(value: Any, path: str, inputs: dict[str, ArtifactRef]) -> Any:
    """Turn wire refs into refs, at any depth of lists and dicts; lazy sequences become lists."""
    if ArtifactRef.is_wire(value):
        inputs[path] = ArtifactRef.from_wire(value)
        return inputs[path]
    if isinstance(value, ArtifactRef):
        inputs[path] = value
        return value
    if type(value) is dict:
        return {key: _find(held, f"{path}.{key}", inputs) for key, held in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_find(element, f"{path}[{n}]", inputs) for n, element in enumerate(value))
    if _is_lazy_sequence(value):
        return [_find(element, f"{path}[{n}]", inputs) for n, element in enumerate(value)]
    return value


def _is_lazy_sequence(value: Any) -> bool:
    """Recognise what Airflow hands over for mapped upstream tasks."""
    return isinstance(value, Sequence) and type(value).__module__.startswith("airflow.")


def _replace(value: Any, replacement: Callable[[ArtifactRef], Any]) -> Any:
    if isinstance(value, ArtifactRef):
        return replacement(value)
    if type(value) is dict:
        return {key: _replace(held, replacement) for key, held in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_replace(element, replacement) for element in value)
    return value


def _submit(value: Any, wanted: Any, pool: ThreadPoolExecutor, stack: Stack, scratch: Path) -> Any:
    if isinstance(value, ArtifactRef):
        return pool.submit(_load, value, wanted, stack, scratch)
    if type(value) is dict:
        return {key: _submit(held, element_type(wanted), pool, stack, scratch) for key, held in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_submit(element, element_type(wanted), pool, stack, scratch) for element in value)
    return value


def _load(ref: ArtifactRef, wanted: Any, stack: Stack, scratch: Path) -> Any:
    return stack.load(ref, Path(tempfile.mkdtemp(prefix=f"{ref.digest[:12]}-", dir=scratch)), wanted)


def _collect(value: Any) -> Any:
    if isinstance(value, Future):
        return value.result()
    if type(value) is dict:
        return {key: _collect(held) for key, held in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_collect(element) for element in value)
    return value
