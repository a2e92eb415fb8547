"""The summary of a source file: the normalized content of each definition, and its references to outer names."""

import marshal
import re
from collections.abc import Collection
from hashlib import sha256
from types import CodeType
from typing import Any

import msgspec
from msgspec import structs

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


class BindingScope:
    """The names that a function, class or module binds, and the references in it.

    `loads` are looked up in the scopes around it, `passed` come from outside of all of them.
    """

    __slots__ = ("bound", "imports", "kind", "loads", "names", "outside", "passed", "walrus")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.bound: dict[str, int] = {}
        self.outside: set[str] = set()
        self.walrus: set[str] = set()
        self.imports: dict[str, list[Import]] = {}
        self.names: set[str] = set()
        self.loads: list[Reference] = []
        self.passed: list[Reference] = []

    def bind(self, name: str) -> None:
        """Add a name that the scope binds."""
        self.bound[name] = self.bound.get(name, 0) + 1

    def read_name(self, name: str) -> None:
        """Add a plain name, once."""
        if self.kind == "class":
            self.read(Reference((name,)))
        elif name not in self.names:
            self.names.add(name)
            self.loads.append(Reference((name,)))

    def read(self, reference: Reference) -> None:
        """Add a reference; a class body has only what it has bound so far."""
        if self.kind == "class" and reference.chain[0] in self.bound:
            self._add_imported(reference)
        else:
            self.loads.append(reference)

    def _add_imports(self, local: Collection[str]) -> None:
        read = set()
        for reference in self.loads:
            read.add(reference.chain[0])
            if reference.chain[0] in local:
                self._add_imported(reference)
        for name in self.imports.keys() - read:
            # Perhaps it is there for what the module does when it is loaded.
            named = [each for each in self.imports[name] if each.attribute]
            loaded = [Import(each.loads or each.module, "", each.level) for each in self.imports[name] if each.module]
            self.passed.append(Reference((name,), imports=(*loaded, *named)))

    def _add_imported(self, reference: Reference) -> None:
        if found := self.imports.get(reference.chain[0]):
            self.passed.append(structs.replace(reference, imports=tuple(found)))

    def close(self) -> list[Reference]:
        """Return the references that are looked up in the scope around this one."""
        if self.kind == "class":
            return self.loads
        local = self.bound.keys() - self.outside if self.outside else self.bound
        if self.imports:
            self._add_imports(local)
        return [reference for reference in self.loads if reference.chain[0] not in local]


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
