"""Outputs that annotations declare: names when the DAG is parsed, types when they are needed."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from types import GenericAlias, UnionType
from typing import Annotated, Any, NotRequired, Required, Union, get_args, get_origin

import msgspec

from airflow_zen.errors import OutputError, StepDefinitionError
from airflow_zen.materializers.annotations import FAIL, WARN, Artifact
from airflow_zen.steps.annotations import Imports, Owner, resolve_annotation, resolve_type, returned_type
from airflow_zen.type_names import display_name, walk_types

SINGLE_OUTPUT = "output"
CHECKS_SUFFIX = ".checks"
"""The suffix of the name of the report of an output's declared checks."""

_WRAPPERS = (Annotated, Required, NotRequired)
_OPTIONAL_FORMS = (Required, NotRequired, Union, UnionType)
_OPTIONAL_NAMES = frozenset({"Optional", "Union", "Required", "NotRequired"})


class Output:
    """Declare several named outputs: `def split(…) -> Output(train=pd.DataFrame, test=pd.DataFrame)`.

    The function returns them as a tuple in this order, or as a dict by these names.
    """

    def __init__(self, **types: Any) -> None:
        if not types:
            raise StepDefinitionError("Output() needs at least one name, such as Output(train=pd.DataFrame).")
        self.types = types

    def __repr__(self) -> str:
        return f"Output({', '.join(f'{name}={declared!r}' for name, declared in self.types.items())})"


class Each:
    """Mark a returned list: `-> Annotated[list[T], Each]` makes an artifact of each element, to expand a step over."""


class Outputs(msgspec.Struct, frozen=True):
    """The outputs of a step: `names`, and whether they are several (`is_multiple`) or one value.

    `each` means that this value is a list whose elements are artifacts. `artifact_names` are the artifact names that
    the annotation sets with `Artifact("features")`, by output; `checked` are the marks that declare checks.
    """

    names: tuple[str, ...] = (SINGLE_OUTPUT,)
    is_multiple: bool = False
    each: bool = False
    artifact_names: Mapping[str, str] = msgspec.field(default_factory=dict)
    checked: Mapping[str, Artifact] = msgspec.field(default_factory=dict)

    @property
    def skips(self) -> bool:
        """Whether failed checks of an output skip tasks downstream."""
        return any(mark.on_failure not in (FAIL, WARN) for mark in self.checked.values())

    def by_name(self, result: Any) -> dict[str, Any]:
        """Return a function's result by output name; raise `OutputError` when it does not fit."""
        if self.each and not isinstance(result, list | tuple):
            actual = display_name(type(result))
            raise OutputError(
                f"output {self.names[0]!r} is marked Each, but the function returned {actual}. Return a list."
            )
        if not self.is_multiple:
            return dict.fromkeys(self.names, result)
        if isinstance(result, Mapping):
            if set(result) != set(self.names):
                raise OutputError(
                    f"expected the outputs {list(self.names)}, got a dict with {sorted(map(str, result))}."
                )
            return {name: result[name] for name in self.names}
        if isinstance(result, tuple | list) and len(result) == len(self.names):
            return dict(zip(self.names, result, strict=True))
        size = f" of {len(result)}" if isinstance(result, tuple | list) else ""
        raise OutputError(
            f"expected the outputs {list(self.names)} as a tuple in this order or a dict by these names, got "
            f"{display_name(type(result))}{size}."
        )


def declared_outputs(function: Callable[..., Any]) -> Outputs:
    """Return the outputs of a function, and evaluate only the parts of its annotation that declare names.

    Raises `StepDefinitionError` for outputs that are ambiguous, or that a step cannot be expanded over.
    """
    annotation = inspect.signature(function).return_annotation
    if annotation is inspect.Signature.empty:
        return Outputs()
    declared = returned_type(_without_text(annotation, function))
    if declared is None or declared is type(None):
        return Outputs(())
    members = _several_outputs(declared, function, _without_text)
    _reject_each(members.values() if members else get_args(declared))
    if not members and is_each(declared):
        _check_marked_list(declared)
    types = members or {_output_label(declared) or SINGLE_OUTPUT: declared}
    marks = {name: mark for name, held in types.items() for mark in _artifact_marks(held, function)}
    artifact_names = {name: mark.name for name, mark in marks.items() if mark.name}
    checked = {name: mark for name, mark in marks.items() if mark.checks}
    return _check_names(Outputs(tuple(types), bool(members), is_each(declared), artifact_names, checked))


def output_types(function: Callable[..., Any], outputs: Outputs, imports: Imports = Imports.ALL) -> Mapping[str, Any]:
    """Return the declared type of each output; None if none is declared or it cannot be evaluated."""
    annotated = _annotated_types(function, outputs, imports)
    return {name: _strip_wrappers(declared) for name, declared in annotated.items()}


def output_artifacts(function: Callable[..., Any], outputs: Outputs) -> Mapping[str, Artifact]:
    """Return the `Artifact(…)` of the outputs that have one.

    Raises `StepDefinitionError` for an `Artifact(…)` on elements that are not artifacts of their own.
    """
    types = _annotated_types(function, outputs, Imports.LIGHT)
    found = {name: artifact for name, declared in types.items() if (artifact := artifact_marker(declared))}
    for name, artifact in found.items():
        if not outputs.each and not _marks_whole_type(artifact, types[name]):
            raise StepDefinitionError(
                f"output {name!r} has {artifact!r} around its elements, which are no artifacts of their own. Put it around "
                "the whole, Annotated[list[T], Artifact(…)], or mark the list Each."
            )
    return found


def checked_output(output: str) -> str:
    """Return the output that a report of declared checks is about; empty for an output of the function."""
    return output.removesuffix(CHECKS_SUFFIX) if output.endswith(CHECKS_SUFFIX) else ""


def is_each(declared: Any) -> bool:
    """Whether a return annotation is marked by `Each`."""
    marks = declared.__metadata__ if get_origin(declared) is Annotated else ()
    return any(mark is Each or isinstance(mark, Each) for mark in marks)


def _several_outputs(declared: Any, function: Owner, resolve: Callable[[Any, Owner], Any]) -> dict[str, Any]:
    """Return the annotation of each of several outputs by name, after `resolve`; empty for one output."""
    if isinstance(declared, Output):
        return {name: resolve(held, function) for name, held in declared.types.items()}
    if fields := _field_names(declared):
        return {name: resolve(declared.__annotations__.get(name), declared) for name in fields}
    elements = get_args(declared) if get_origin(declared) is tuple else ()
    names = list(map(_output_label, elements))
    if not any(names) and not any(mark.name for element in elements for mark in _artifact_marks(element, function)):
        return {}
    if not all(names) or len(set(names)) != len(names):
        raise StepDefinitionError(
            f"Outputs must all have different names, got {names}: write "
            'tuple[Annotated[A, "first"], Annotated[B, "second", Artifact("name")]].'
        )
    return dict(zip(names, elements, strict=True))


def _field_names(declared: Any) -> tuple[str, ...]:
    """Return the fields of a NamedTuple or TypedDict class, else nothing."""
    if not isinstance(declared, type):
        return ()
    if issubclass(declared, tuple) and hasattr(declared, "_fields"):
        return tuple(declared._fields)
    return tuple(declared.__annotations__) if issubclass(declared, dict) and hasattr(declared, "__total__") else ()


def _output_label(declared: Any) -> str:
    """Return `"name"` of `Annotated[T, "name"]`."""
    marks = declared.__metadata__ if get_origin(declared) is Annotated else ()
    return next((mark for mark in marks if isinstance(mark, str)), "")


def _artifact_marks(declared: Any, owner: Owner) -> list[Artifact]:
    """Return the `Artifact(…)` of `Annotated[T, Artifact("features")]`, or of a choice of it: `Annotated[T, …] | None`.

    Those with a name are the last.
    """
    declared = _without_text(declared, owner)
    if get_origin(declared) in _OPTIONAL_FORMS:
        found = [mark for held in get_args(declared) for mark in _artifact_marks(held, owner)]
    else:
        found = [mark for mark in getattr(declared, "__metadata__", ()) if isinstance(mark, Artifact)]
    return [*(mark for mark in found if not mark.name), *(mark for mark in found if mark.name)]


def _reject_each(declared: Iterable[Any]) -> None:
    """Raise an error for a marked list inside or beside other outputs: Airflow maps over the whole result of a task."""
    if any(is_each(found) for held in declared for found in walk_types(held)):
        raise StepDefinitionError(
            "Each marks the only output of a step: Airflow expands over what a task returns as a whole. Return the "
            "list from a step of its own, and an empty list instead of None."
        )


def _check_marked_list(declared: Any) -> None:
    """Raise an error for a mark on a type that is known to be no list."""
    kind = get_origin(get_args(declared)[0]) or get_args(declared)[0]
    if isinstance(kind, type) and not (issubclass(list, kind) or issubclass(kind, list | tuple)):
        raise StepDefinitionError(
            f"Each marks a list whose elements are artifacts, got {display_name(kind)}. Declare "
            "Annotated[list[T], Each], and return a list."
        )


def _check_names(outputs: Outputs) -> Outputs:
    """Raise an error for names that Airflow uses in XCom, and for one name of two artifacts."""
    for name in outputs.names:
        if name == "return_value" or name.startswith("_link_"):
            raise StepDefinitionError(f"An output cannot be named {name!r}, which is Airflow's own. Rename it.")
    artifact_names = list(outputs.artifact_names.values())
    if len(set(artifact_names)) != len(artifact_names):
        raise StepDefinitionError(
            f"Two outputs of one step cannot be one artifact, got the names {artifact_names}. Rename one."
        )
    if outputs.each and artifact_names:
        raise StepDefinitionError(
            f"Artifact({artifact_names[0]!r}) cannot name a list marked Each, whose elements are artifacts. Leave the "
            "name out."
        )
    return outputs


def _without_text(annotation: Any, owner: Owner) -> Any:
    """Return an annotation; of a text, its outline: marks are evaluated, and types inside other types are `object`.

    `from __future__ import annotations` turns annotations into texts.
    """
    text = getattr(annotation, "__forward_arg__", annotation)
    if not isinstance(text, str):
        return annotation
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return object
    if isinstance(node, ast.Call) and resolve_annotation(ast.unparse(node.func), owner) is Output:
        return Output(**{str(keyword.arg): _outline(keyword.value, owner) for keyword in node.keywords})
    return _evaluate(text, owner) if isinstance(node, ast.Attribute) else _outline(node, owner)


def _outline(node: ast.expr, owner: Owner) -> Any:
    if isinstance(node, ast.Constant):
        return _without_text(node.value, owner) if isinstance(node.value, str) else node.value
    if isinstance(node, ast.Name):
        return _evaluate(node.id, owner)
    if isinstance(node, ast.BinOp):
        return GenericAlias(Union, (_outline(node.left, owner), _outline(node.right, owner)))  # type: ignore[arg-type]
    name = ast.unparse(node.value).rsplit(".", 1)[-1] if isinstance(node, ast.Subscript) else ""
    if not isinstance(node, ast.Subscript) or name == "Literal":
        return object
    elements = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Annotated" and len(elements) > 1:
        marks = (_resolve_mark(mark, owner) for mark in elements[1:])
        return Annotated[(_outline(elements[0], owner), *marks)]
    if name == "Generator":
        return GenericAlias(Generator, tuple(_outline(element, owner) for element in elements))
    origin = tuple if name in ("tuple", "Tuple") else Union if name in _OPTIONAL_NAMES else list
    # Unlike `Union[…]`, an alias keeps arguments that are alike, and takes any.
    return GenericAlias(origin, tuple(_outline(element, owner) for element in elements))  # type: ignore[arg-type]


def _resolve_mark(mark: ast.expr, owner: Owner) -> Any:
    """Evaluate a mark; raise `StepDefinitionError` if its checks would be ignored."""
    found = resolve_annotation(ast.unparse(mark), owner, Imports.OURS)
    if found is None and isinstance(mark, ast.Call) and any(keyword.arg == "checks" for keyword in mark.keywords):
        raise StepDefinitionError(
            f"{ast.unparse(mark)} of {owner.__qualname__}() names what is not known in its module. Define the checks at the top "
            "of the file, or write the annotation without `from __future__ import annotations`."
        )
    return found


def _evaluate(name: str, owner: Owner) -> Any:
    found = resolve_annotation(name, owner)
    return object if found is None else found


def _annotated_types(function: Callable[..., Any], outputs: Outputs, imports: Imports) -> Mapping[str, Any]:
    """Evaluate the annotation of each output, with its marks; None if that fails."""
    resolve = partial(resolve_type, imports=imports)
    declared = returned_type(resolve(inspect.signature(function).return_annotation, function))
    if not outputs.is_multiple:
        return dict.fromkeys(outputs.names, declared)
    types = _several_outputs(declared, function, resolve)
    return {name: types.get(name) for name in outputs.names}


def _marks_whole_type(artifact: Artifact, declared: Any) -> bool:
    """Whether a mark applies to a type as a whole, or to its non-None choice: `Annotated[T, …] | None`."""
    if artifact in getattr(declared, "__metadata__", ()):
        return True
    is_whole = get_origin(declared) in (*_WRAPPERS, *_OPTIONAL_FORMS)
    return is_whole and any(_marks_whole_type(artifact, held) for held in get_args(declared))


def _strip_wrappers(declared: Any) -> Any:
    """Return `T` of `Annotated[T, …]`; in `T | None`, None is kept."""
    return _strip_wrappers(get_args(declared)[0]) if get_origin(declared) in _WRAPPERS else declared


def artifact_marker(declared: Any) -> Artifact | None:
    """Return the `Artifact(…)` of `Annotated[T, Artifact(…)]`, also inside `list[…]` and `… | None`."""
    marks = (mark for found in walk_types(declared) for mark in getattr(found, "__metadata__", ()))
    return next((mark for mark in marks if isinstance(mark, Artifact)), None)


def runtime_class(declared: Any) -> type | None:
    """Return the class behind a declared type (`list` for `list[int]`); None if there is not exactly one.

    `pandera.typing.DataFrame[Schema]` annotates frames that are pandas' own.
    """
    origin = get_origin(declared) or declared
    if not isinstance(origin, type) or origin is Any:
        return None
    if not origin.__module__.startswith("pandera.typing."):
        return origin
    return next(base for base in origin.__mro__ if not base.__module__.startswith("pandera."))
