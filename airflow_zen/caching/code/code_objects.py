"""What compiled code does, as a digest."""

from __future__ import annotations

import ast
import marshal
from collections.abc import Iterator
from hashlib import sha256
from types import CodeType
from typing import Any


def code_digest(code: CodeType) -> str:
    """Return the hash of what a code object does, whatever file and lines it names."""
    return sha256(repr(_code_content(code)).encode()).hexdigest()[:32]


def _code_content(code: CodeType) -> tuple[Any, ...]:
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
    return (code.co_code, names, counts, [_constant_content(each) for each in code.co_consts])


def _constant_content(value: Any) -> Any:
    if isinstance(value, CodeType):
        return _code_content(value)
    if isinstance(value, frozenset):
        return sorted(map(repr, value))
    # Version 2 of the format does not say which strings are interned.
    return repr(value) if isinstance(value, slice) else marshal.dumps(value, 2)


def nested_codes(code: CodeType) -> Iterator[CodeType]:
    """Yield every code object inside one."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from nested_codes(constant)


def is_at(body: ast.expr, code: CodeType) -> bool:
    """Whether the body of a lambda is at the position of the code's instructions."""
    begin, end = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    places = [place for place in code.co_positions() if place[0] and place[2] is not None and place[3]]
    return (begin, end) == (
        min((line, column) for line, _, column, _ in places),
        max((last, column) for _, last, _, column in places),
    )
