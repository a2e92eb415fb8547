"""The summary of a source file: the normalized content of each definition, and its references to outer names."""

import marshal
import re
from hashlib import sha256
from types import CodeType
from typing import Any

import msgspec

# No postponed annotations: msgspec would evaluate each of them in every process.
# The first name of a reference to an attribute that finds code of its own, wherever it is read from.
REFLECTION = "any object"
_QUERY_NAME = r"(?<![\w.])@([A-Za-z_][\w.]*)"


class Import(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """One name bound by an import: a module, or an attribute of it; `loads` is the module below that `import a.b` loads."""

    module: str
    attribute: str = ""
    level: int = 0
    loads: str = ""


class Reference(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """A name with the attributes read from it.

    `has_argument` says that it is called with an argument other than None, `strings` are the arguments that are literal
    names (`"package.module"`, `"name=value"` of a keyword), empty text for any other. `imports` are set for a name that
    an import inside the code binds.
    """

    chain: tuple[str, ...]
    has_argument: bool = False
    strings: tuple[str, ...] = ()
    imports: tuple[Import, ...] = ()
    is_called: bool = False


class Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A piece of code: the hash of its content, and every name in it that is defined elsewhere."""

    digest: str = ""
    references: tuple[Reference, ...] = ()


class Decorator(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One decorator of a definition; `chain` is its dotted name, empty when it has none."""

    part: Part
    chain: tuple[str, ...]
    reads_annotations: bool


class Definition(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A function, lambda or class in its file.

    `first_line` is that of its first decorator. `code` holds its defaults and body, without decorators and annotations;
    `annotations` those of a function, `parameter_types` the names in the annotations of its parameters, quoted ones too.
    `literals` are the constants written as defaults of parameters or as attributes of a class, as `constant_text` gives
    them. `compiled` is the digest of a function's code object, None for a class. `doc` is the hash of the docstring.
    """

    name: str
    qualname: str
    first_line: int
    last_line: int
    code: Part
    decorators: tuple[Decorator, ...]
    literals: dict[str, str]
    annotations: Part = Part()
    parameter_types: tuple[Reference, ...] = ()
    compiled: str | None = None
    doc: str = ""


class Effect(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A top-level statement with a side effect; `target` is the object whose attribute or item it sets."""

    part: Part
    target: tuple[str, ...] = ()


class Summary(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The contents of one file: its top level, the names bound there by imports, and its definitions, inner first.

    `rebound` are the names that its top level binds more than once, `effects` the calls and assignments at the top
    level that may change the state of libraries.
    """

    code: Part
    imports: dict[str, tuple[Import, ...]]
    definitions: tuple[Definition, ...]
    rebound: frozenset[str]
    effects: tuple[Effect, ...] = ()


def constant_text(value: Any) -> str:
    """Return a constant with its type as text; equal texts mean equal constants."""
    text = hex(value) if type(value) is int and value.bit_length() > 1024 else repr(value)
    return f"{type(value).__name__} {text}"


def query_names(text: object) -> list[tuple[str, ...]]:
    """Return the names that pandas reads when it runs a text as a query, such as `@LIMIT`."""
    found = re.findall(_QUERY_NAME, text) if isinstance(text, str) and "@" in text else []
    return list(map(split_name, found))


def split_name(dotted: str) -> tuple[str, ...]:
    """Return the parts of a dotted name."""
    return tuple(filter(None, dotted.split(".")))


# The version of the format that does not say which strings are interned.
_PLAIN = 2


def code_digest(code: CodeType) -> str:
    """Return the hash of the instructions of a code object, without its file and lines."""
    return sha256(marshal.dumps(_code_content(code), _PLAIN)).hexdigest()[:32]


def _code_content(code: CodeType) -> tuple[Any, ...]:
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
    return (code.co_code, names, counts, [_constant_content(each) for each in code.co_consts])


def _constant_content(value: Any) -> Any:
    if isinstance(value, CodeType):
        return _code_content(value)
    if isinstance(value, frozenset):
        return sorted(map(repr, value))
    return repr(value) if isinstance(value, slice) else value
