"""What a step declares to return: names at parse time, types at run time."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, NotRequired, Required, Union, get_args, get_origin, get_type_hints

import msgspec

from airflow_zen.errors import OutputError, StepDefinitionError
from airflow_zen.materializers.annotations import Artifact, element_type
from airflow_zen.steps.annotations import artifact_marker, resolve_annotation, resolve_type
from airflow_zen.steps.conformance import coerce_output

SINGLE_OUTPUT = "output"

_OPTIONAL_FORMS = frozenset({"Optional", "Union", "Required", "NotRequired"})


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


class Outputs(msgspec.Struct, frozen=True):
    """The outputs of a step: `names`, and whether they are `is_multiple` (a name each) or one value.

    `each` says that this value is a list whose elements are artifacts. `artifact_names` are the names of artifacts that are
    written out, `Artifact("features")`, by output.
    """

    names: tuple[str, ...] = (SINGLE_OUTPUT,)
    is_multiple: bool = False
    each: bool = False
    artifact_names: Mapping[str, str] = msgspec.field(default_factory=dict)

    def by_name(self, result: Any) -> dict[str, Any]:
        """Hand out a function's result by output name; raises `OutputError` when it does not fit."""
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
        raise OutputError(
            f"expected the outputs {list(self.names)} as a tuple in this order or a dict by these names, got "
            f"{_describe_result(result)}."
        )


def declared_outputs(function: Callable[..., Any]) -> Outputs:
    """Read the names of a function's outputs, evaluating no more of the annotation than they need."""
    annotation = inspect.signature(function).return_annotation
    if annotation is inspect.Signature.empty:
        return Outputs()
    if isinstance(annotation, str):
        annotation = _StringAnnotation(annotation, function).read()
    return _check_names(_outputs_of_annotation(annotation, function))


def output_types(function: Callable[..., Any], outputs: Outputs) -> Mapping[str, Any]:
    """Evaluate the declared type of each output; None where none is declared or it cannot be evaluated."""
    return {name: _strip_wrappers(annotated) for name, annotated in _annotated_types(function, outputs).items()}


def output_artifacts(function: Callable[..., Any], outputs: Outputs) -> Mapping[str, Artifact]:
    """Give what the annotations of outputs say of who stores them.

    Raises `StepDefinitionError` for an `Artifact(…)` around elements that are no artifacts of their own.
    """
    found = {name: artifact_marker(annotated) for name, annotated in _annotated_types(function, outputs).items()}
    for name, artifact in found.items():
        if artifact and not outputs.each and not _marks_whole_type(artifact, _annotated_types(function, outputs)[name]):
            raise StepDefinitionError(
                f"output {name!r} has {artifact!r} around its elements, which are no artifacts of their own. Put it around "
                "the whole, Annotated[list[T], Artifact(…)], or mark the list Each."
            )
    return {name: artifact for name, artifact in found.items() if artifact}


def _marks_whole_type(artifact: Artifact, declared: Any) -> bool:
    """Tell whether a mark stands around a type as a whole, or around a choice of it: `Annotated[T, …] | None`."""
    if artifact in getattr(declared, "__metadata__", ()):
        return True
    whole = get_origin(declared) in (Annotated, Required, NotRequired, Union, UnionType)
    return whole and any(_marks_whole_type(artifact, held) for held in get_args(declared))


def _annotated_types(function: Callable[..., Any], outputs: Outputs) -> Mapping[str, Any]:
    """Evaluate the annotation of each output, with what is `Annotated` about it."""
    declared = resolve_type(inspect.signature(function).return_annotation, function)
    if declared is inspect.Signature.empty:
        declared = None
    if not outputs.is_multiple:
        return dict.fromkeys(outputs.names, declared)
    if isinstance(declared, Output):
        found = [resolve_type(held, function) for held in declared.types.values()]
    elif isinstance(declared, type):
        hints = _field_types(declared, function)
        found = [hints.get(name) for name in outputs.names]
    else:
        found = list(get_args(declared))
    return dict(zip(outputs.names, found or [None] * len(outputs.names), strict=True))


def unpack_result(result: Any, outputs: Outputs, types: Mapping[str, Any], step: str) -> dict[str, Any]:
    """Split a result and fit each value to its declared type, before anything is stored."""
    try:
        values = outputs.by_name(result)
        if outputs.each:
            name = outputs.names[0]
            values, types = split_elements(name, values[name], types[name])
        return {name: coerce_output(value, types[name], name) for name, value in values.items()}
    except OutputError as error:
        raise OutputError(f"Step {step!r}: {error}") from None


def _strip_wrappers(declared: Any) -> Any:
    """Strip `Annotated[T, …]` down to `T`; None beside it stays allowed."""
    wrapped = get_origin(declared) in (Annotated, Required, NotRequired)
    return _strip_wrappers(get_args(declared)[0]) if wrapped else declared


def _field_types(owner: type, function: Callable[..., Any]) -> Mapping[str, Any]:
    """Evaluate the fields of a NamedTuple or TypedDict where they were written; those that cannot be are left out."""
    try:
        return get_type_hints(
            owner, localns=getattr(inspect.unwrap(function), "__globals__", None), include_extras=True
        )
    except Exception:  # noqa: BLE001 - a name that exists for type checkers only can fail in any way
        return {
            name: resolve_annotation(held, function)
            for name, held in owner.__annotations__.items()
            if isinstance(held, type)
        }


def _check_names(outputs: Outputs) -> Outputs:
    """Refuse names that Airflow keeps for itself in XCom, and names of artifacts that two outputs would have."""
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
            f"Artifact({artifact_names[0]!r}) cannot name a list marked Each, of which every element is an artifact. Leave the "
            "name out."
        )
    return outputs


def _outputs_of_annotation(annotation: Any, function: Callable[..., Any]) -> Outputs:
    if annotation is None or annotation is type(None):
        return Outputs(())
    if isinstance(annotation, Outputs):
        return annotation
    if isinstance(annotation, Output):
        _reject_each(annotation.types.values())
        return _multiple_outputs(
            tuple(annotation.types), [_artifact_name(held, function) for held in annotation.types.values()]
        )
    fields = _field_names(annotation)
    if fields:
        held = [annotation.__annotations__.get(name) for name in fields]
        return _multiple_outputs(fields, [_artifact_name(each, function, annotation) for each in held])
    _reject_each(get_args(annotation))
    if get_origin(annotation) is tuple:
        names = [_output_label(element) for element in get_args(annotation)]
        artifact_names = [_artifact_name(element, function) for element in get_args(annotation)]
        if any(names) or any(artifact_names):
            return _multiple_outputs(_distinct_names(names), artifact_names)
    label, name = _output_label(annotation) or SINGLE_OUTPUT, _artifact_name(annotation, function)
    if is_each(annotation):
        check_marked_list(annotation)
    return Outputs((label,), each=is_each(annotation), artifact_names={label: name} if name else {})


def _multiple_outputs(names: tuple[str, ...], artifact_names: Iterable[str]) -> Outputs:
    """Declare several outputs, with the names of the artifacts among them that have one of their own."""
    return Outputs(
        names,
        is_multiple=True,
        artifact_names={name: held for name, held in zip(names, artifact_names, strict=True) if held},
    )


def _artifact_name(annotation: Any, function: Callable[..., Any], owner: type | None = None) -> str:
    """Give `"features"` of `Annotated[T, Artifact("features")]`; of text, as a class may hold it, evaluating no type."""
    annotation = getattr(annotation, "__forward_arg__", annotation)
    if isinstance(annotation, str):
        return _StringAnnotation(annotation, _ClassNamespace(owner) if owner else function).name()
    if get_origin(annotation) in (Required, NotRequired, Union, UnionType):
        return next(filter(None, (_artifact_name(held, function, owner) for held in get_args(annotation))), "")
    return _first_artifact_name(getattr(annotation, "__metadata__", ()))


def _first_artifact_name(marks: Iterable[Any]) -> str:
    return next((mark.name for mark in marks if isinstance(mark, Artifact) and mark.name), "")


class _ClassNamespace:
    """Let the annotations of a class be evaluated as those of a function are, in its module."""

    def __init__(self, owner: type) -> None:
        self.__globals__ = vars(sys.modules[owner.__module__])


def _reject_each(declared: Iterable[Any]) -> None:
    """Refuse a list to expand over inside or among others: Airflow maps over all that a task returns, or nothing."""
    for held in declared:
        if is_each(held):
            raise StepDefinitionError(
                "Each marks the only output of a step: Airflow expands over what a task returns as a whole. Return the "
                "list from a step of its own, and an empty one in the place of None."
            )
        _reject_each(get_args(held))


def _distinct_names(names: list[str]) -> tuple[str, ...]:
    if not all(names) or len(set(names)) != len(names):
        raise StepDefinitionError(
            f"Outputs must all have different names, got {names}: write "
            'tuple[Annotated[A, "first"], Annotated[B, "second", Artifact("name")]].'
        )
    return tuple(names)


def _field_names(annotation: Any) -> tuple[str, ...]:
    """Give the fields of a NamedTuple or TypedDict class, else nothing."""
    if not isinstance(annotation, type):
        return ()
    if issubclass(annotation, tuple) and hasattr(annotation, "_fields"):
        return tuple(annotation._fields)
    if issubclass(annotation, dict) and hasattr(annotation, "__total__"):
        return tuple(annotation.__annotations__)
    return ()


def _output_label(annotation: Any) -> str:
    """Give `"name"` of `Annotated[T, "name"]`."""
    if get_origin(annotation) is not Annotated:
        return ""
    return next((extra for extra in annotation.__metadata__ if isinstance(extra, str)), "")


def _describe_result(result: Any) -> str:
    size = f" of {len(result)}" if isinstance(result, tuple | list) else ""
    return f"{type(result).__qualname__}{size}"


class _StringAnnotation:
    """Read output names from an annotation that is still text (`from __future__ import annotations`)."""

    def __init__(self, text: str, function: Any) -> None:
        self.text = text
        self.function = function

    def read(self) -> Any:
        """Give what `_outputs_of_annotation` understands, evaluating only a plain name such as a NamedTuple's."""
        node = ast.parse(self.text.strip(), mode="eval").body
        self._reject_each(held for held in ast.walk(node) if held is not node)
        if isinstance(node, ast.Constant):
            return _StringAnnotation(node.value, self.function).read() if isinstance(node.value, str) else node.value
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.Subscript):
            return self._subscript(node)
        if isinstance(node, ast.BinOp) and (name := self._artifact_name(node)):
            return Outputs(artifact_names={SINGLE_OUTPUT: name})
        return resolve_annotation(self.text, self.function) or object

    def name(self) -> str:
        """Give the name of the artifact that one output's annotation writes out; empty where it is none."""
        node = ast.parse(self.text.strip(), mode="eval").body
        if isinstance(node, ast.Name | ast.Attribute):
            return _first_artifact_name(getattr(resolve_annotation(self.text, self.function), "__metadata__", ()))
        return self._artifact_name(node)

    def _call(self, node: ast.Call) -> Any:
        if resolve_annotation(ast.unparse(node.func), self.function) is not Output:
            return object
        held = [keyword.value for keyword in node.keywords]
        return _multiple_outputs(tuple(str(keyword.arg) for keyword in node.keywords), map(self._artifact_name, held))

    def _subscript(self, node: ast.Subscript) -> Any:
        label, each, name = self._output_label(node), self._is_each(node), self._artifact_name(node)
        if label or each or name:
            return Outputs(
                (label or SINGLE_OUTPUT,), each=each, artifact_names={label or SINGLE_OUTPUT: name} if name else {}
            )
        if ast.unparse(node.value).rsplit(".", 1)[-1] not in {"tuple", "Tuple"}:
            return object
        elements = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        names, artifact_names = (
            [self._output_label(element) for element in elements],
            [self._artifact_name(element) for element in elements],
        )
        return (
            _multiple_outputs(_distinct_names(names), artifact_names) if any(names) or any(artifact_names) else object
        )

    def _reject_each(self, elements: Iterable[ast.AST]) -> None:
        _reject_each(Annotated[list, Each] for element in elements if self._is_each(element))

    def _output_label(self, node: ast.expr) -> str:
        return next((mark for mark in self._marks(node) if isinstance(mark, str)), "")

    def _artifact_name(self, node: ast.expr) -> str:
        """Look beside the type, and inside what says that it may be missing."""
        inner: list[ast.expr] = []
        if isinstance(node, ast.BinOp):
            inner = [node.left, node.right]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).rsplit(".", 1)[-1] in _OPTIONAL_FORMS:
            inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return _first_artifact_name(self._marks(node)) or next(filter(None, map(self._artifact_name, inner)), "")

    def _is_each(self, node: ast.AST) -> bool:
        return any(mark is Each or isinstance(mark, Each) for mark in self._marks(node))

    def _marks(self, node: ast.AST) -> list[Any]:
        """Evaluate what stands beside the type in `Annotated[T, …]`, and never the type."""
        if not isinstance(node, ast.Subscript) or not isinstance(node.slice, ast.Tuple):
            return []
        if ast.unparse(node.value).rsplit(".", 1)[-1] != "Annotated":
            return []
        return [
            resolve_annotation(ast.unparse(mark), self.function, imports="airflow_zen") for mark in node.slice.elts[1:]
        ]


class Each:
    """Mark a returned list: `-> Annotated[list[T], Each]` makes an artifact of each element, to expand a step over."""


def is_each(declared: Any) -> bool:
    """Tell whether a return annotation is marked by `Each`."""
    if get_origin(declared) is not Annotated:
        return False
    return any(mark is Each or isinstance(mark, Each) for mark in get_args(declared)[1:])


def check_marked_list(declared: Any) -> None:
    """Refuse a mark around what is no list, where that can be told; raises `StepDefinitionError`."""
    kind = get_origin(get_args(declared)[0]) or get_args(declared)[0]
    if isinstance(kind, type) and not (issubclass(list, kind) or issubclass(kind, list | tuple)):
        raise StepDefinitionError(
            f"Each marks a list, of which every element is an artifact, got {kind.__qualname__}. Declare "
            "Annotated[list[T], Each], and return a list."
        )


def split_elements(name: str, value: Any, declared: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the elements of a returned list by name, and their declared types; raises `OutputError` for no list."""
    if not isinstance(value, list | tuple):
        raise OutputError(
            f"output {name!r} is marked Each, but the function returned {type(value).__qualname__}. Return a list."
        )
    values = {f"{name}[{at}]": element for at, element in enumerate(value)}
    return values, {held: element_type(declared, at) for at, held in enumerate(values)}


def declared_output_type(name: str, types: Mapping[str, Any]) -> Any:
    """Give the declared type of an output, or of an element of it (`output[3]`)."""
    whole, bracket, at = name.partition("[")
    if name in types or not bracket:
        return types.get(name)
    return element_type(types.get(whole), int(at.rstrip("]")))
