"""Write the TypeScript types of the answers of the pages' API, ui/src/shared/answers.ts, from its models."""

from __future__ import annotations

import inspect
import types
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from airflow_zen.ui import catalogue_responses, dag_responses, responses
from airflow_zen.ui.responses import Answer

TYPES = Path(__file__).resolve().parent.parent / "ui/src/shared/answers.ts"
_MODULES = (responses, dag_responses, catalogue_responses)
_NAMES = {str: "string", int: "number", float: "number", bool: "boolean", Any: "unknown", type(None): "null"}


def answer_types() -> str:
    """Return the types of all answers in TypeScript, in the order of their definition."""
    models = [
        model
        for module in _MODULES
        for model in vars(module).values()
        if inspect.isclass(model) and issubclass(model, Answer) and model.__module__ == module.__name__
    ]
    header = "// Written by `python -m scripts.ui_types` from the models of airflow_zen/ui.\n"
    return "\n".join([header, *map(_interface, models)])


def _interface(model: type[Answer]) -> str:
    model.model_rebuild()  # resolves what was defined after it
    fields = [f"  readonly {name}: {_type(field.annotation)};" for name, field in model.model_fields.items()]
    return "\n".join([f"export interface {model.__name__} {{", *fields, "}\n"])


def _type(annotation: Any) -> str:
    if annotation in _NAMES:
        return _NAMES[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is list:
        return f"readonly {_element(arguments[0])}[]"
    if origin is dict:
        return f"Readonly<Record<{_type(arguments[0])}, {_type(arguments[1])}>>"
    if origin in (Union, types.UnionType):
        return " | ".join(map(_type, arguments))
    return str(annotation.__name__)


def _element(annotation: Any) -> str:
    text = _type(annotation)
    return f"({text})" if " " in text else text


if __name__ == "__main__":
    TYPES.write_text(answer_types(), encoding="utf-8")
