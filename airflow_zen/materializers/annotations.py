"""The marks in annotations of steps, and the views of stored values that declared types request."""

from __future__ import annotations

import collections.abc
from pathlib import PurePath
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec.structs import force_setattr, replace

from airflow_zen.artifacts.ref import validate_artifact_name
from airflow_zen.errors import MaterializerDefinitionError, StepDefinitionError, ValidationDefinitionError
from airflow_zen.materializers.base import Materializer, is_materializer
from airflow_zen.type_names import is_union, type_name, walk_types

_STREAM_TYPES = (collections.abc.Iterator, collections.abc.Generator, collections.abc.Iterable)


FAIL, WARN, SKIP = "fail", "warn", "skip"
FailureAction = str | tuple[str, ...]
"""The effect of a failed validation: one of these, or the ids of the tasks that run instead of the others."""


def validate_failure_action(action: Any) -> FailureAction:
    """Return a valid action, task ids as a tuple; raise `ValidationDefinitionError` for anything else."""
    if isinstance(action, list | tuple) and action and all(isinstance(task_id, str) for task_id in action):
        return tuple(action)
    if action not in (FAIL, WARN, SKIP):
        raise ValidationDefinitionError(
            f"on_failure is 'fail', 'warn', 'skip', or a list of the ids of tasks to follow, such as ['alert']; got {action!r}."
        )
    return str(action)


class _Named(msgspec.Struct, frozen=True):
    name: str = ""


class Artifact(_Named, frozen=True, kw_only=True):
    """Name an output, or choose its materializer: `-> Annotated[pd.DataFrame, Artifact("features")]`.

    `name` replaces `<dag>/<task>`, and has one history of versions, whichever step writes it. `materializer` stores
    this output only; on a parameter it reads an artifact of a materializer that is not registered. `previews`: False
    makes no preview of the output, True makes one even if the deployment makes none.

    `checks` is a validator or a list of validators that check the output before it becomes visible. `on_failure` is the
    effect of a failure: `"fail"` fails the task without a retry, `"warn"` only logs, `"skip"` skips the tasks
    downstream, and a list of task ids runs these instead of the other tasks downstream. `quarantine=True` stores a
    failed output as a version that `latest()` does not select. Raises `ArtifactNameError` for an invalid name.
    """

    materializer: type[Materializer] | None = None
    previews: bool | None = None
    checks: Any = ()
    on_failure: Any = FAIL
    quarantine: bool = False

    def __post_init__(self) -> None:
        """Raise an error for an invalid name, a class that is not a materializer, and an unknown `on_failure`."""
        if self.name:
            validate_artifact_name(self.name)
        if self.materializer is not None and not is_materializer(self.materializer):
            raise MaterializerDefinitionError(
                f"Artifact(materializer=…) takes a subclass of airflow_zen.Materializer that has an encoding, got "
                f"{self.materializer!r}."
            )
        checks = self.checks if isinstance(self.checks, list | tuple) else (self.checks,)
        force_setattr(self, "checks", tuple(checks))
        force_setattr(self, "on_failure", validate_failure_action(self.on_failure))


class Columns:
    """Mark a parameter that needs only some columns: `Annotated[pd.DataFrame, Columns("a", "b")]` reads no others."""

    def __init__(self, *names: str) -> None:
        if not names or not all(isinstance(name, str) for name in names):
            raise StepDefinitionError(f"Columns takes names of columns, such as Columns('a', 'b'), got {names!r}.")
        if len(set(names)) < len(names):
            raise StepDefinitionError(f"Columns names each column once, got {names!r}. Leave the second out.")
        self.names = names

    def __repr__(self) -> str:
        return f"Columns({', '.join(map(repr, self.names))})"


class View(msgspec.Struct, frozen=True):
    """The parts of a declared type: the class, the `columns` it is limited to, and whether it is read in `batches`."""

    cls: type | None = None
    columns: tuple[str, ...] = ()
    batches: bool = False

    @classmethod
    def of(cls, declared: Any) -> View:
        """Return the view of a declared type; `cls` is None if there is not one class."""
        if is_stream_annotation(declared):
            return replace(cls.of(batch_type(declared)), batches=True)
        if get_origin(declared) is Annotated:
            columns, inner = columns_marker(declared), cls.of(get_args(declared)[0])
            return replace(inner, columns=columns.names) if columns else inner
        origin = get_origin(declared) or declared
        return cls(origin if isinstance(origin, type) else None)

    def __str__(self) -> str:
        name = type_name(self.cls) if self.cls else "any"
        name = f"{name}{list(self.columns)}" if self.columns else name
        return f"Iterator[{name}]" if self.batches else name


def columns_marker(declared: Any) -> Columns | None:
    """Return the `Columns` of `Annotated[T, Columns(…)]`."""
    return next((mark for mark in getattr(declared, "__metadata__", ()) if isinstance(mark, Columns)), None)


def is_stream_annotation(declared: Any) -> bool:
    """Whether a declared type requests batches: `Iterator[T]`, `Generator[T, …]`, `Iterable[T]`."""
    return get_origin(declared) in _STREAM_TYPES or declared in _STREAM_TYPES


def batch_type(declared: Any) -> Any:
    """Return `T` of `Iterator[T]`; None if it is not declared."""
    return next(iter(get_args(declared)), None) if is_stream_annotation(declared) else None


def strip_annotation(declared: Any) -> Any:
    """Return `T` of `Annotated[T, …]` and of `T | None`; `Annotated[T, Columns(…)]` as it is."""
    if get_origin(declared) is Annotated:
        return declared if columns_marker(declared) else strip_annotation(get_args(declared)[0])
    choices = [choice for choice in get_args(declared) if choice is not type(None)] if is_union(declared) else ()
    return strip_annotation(choices[0]) if len(choices) == 1 else declared


def element_type(declared: Any, at: int = 0) -> Any:
    """Return `T` of `list[T]`, `tuple[T, ...]`, `dict[K, T]`, and of `tuple[A, B]` the type at a position; else None."""
    declared = strip_annotation(declared)
    arguments = get_args(declared)
    if get_origin(declared) is tuple and Ellipsis not in arguments:
        return strip_annotation(arguments[at]) if at < len(arguments) else None
    arguments = tuple(argument for argument in arguments if argument is not Ellipsis)
    return strip_annotation(arguments[-1]) if arguments else None


def contains_path(declared: Any) -> bool:
    """Whether a declared type is a path, or contains one: `dict[str, Path]`."""
    return any(isinstance(found, type) and issubclass(found, PurePath) for found in walk_types(declared))
