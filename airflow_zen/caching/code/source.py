"""Source files, parsed once and searched by position; and the code behind functions, classes and wrappers."""

from __future__ import annotations
import __future__

import functools
import importlib.util
import inspect
import linecache
import operator
import os
import stat
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache, cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from types import CellType, CodeType, FunctionType
from typing import Any

import msgspec

from airflow_zen.caching.code.code_objects import code_digest
from airflow_zen.caching.code.distributions import MISSING, CodeOrigin, origin_of_module, unwrap_callable
from airflow_zen.caching.code.summary import Definition, Summary, constant_text
from airflow_zen.caching.code.syntax import summarize
from airflow_zen.errors import FingerprintError
from airflow_zen.instances import instance_attributes

_FUTURE_FLAGS = functools.reduce(
    operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)

_HEAP_TYPE = 1 << 9
_PLAIN_TYPES = (bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset, type(None))

_MAX_FILES = 2048
_MAX_STORED = 1024
_MAX_STORED_BYTES = 512 * 1024


class SourceFile(msgspec.Struct, frozen=True, eq=False, dict=True):
    """One file, or the text of a notebook's cell.

    `is_checked` is False where the code that runs is not the text as Python compiles it.
    """

    path: str
    text: str
    summary: Summary
    is_checked: bool = True

    @cached_property
    def lines(self) -> list[str]:
        """The lines of the text."""
        return self.text.splitlines()

    @cached_property
    def _by_place(self) -> dict[tuple[str, int], list[Definition]]:
        found: dict[tuple[str, int], list[Definition]] = {}
        for one in self.summary.definitions:
            found.setdefault((one.name, one.first_line), []).append(one)
        return found

    @cached_property
    def _classes(self) -> dict[str, list[Definition]]:
        found: dict[str, list[Definition]] = {}
        for one in self.summary.definitions:
            if one.compiled is None:
                found.setdefault(one.qualname, []).append(one)
        return found

    @cached_property
    def _by_code(self) -> dict[int, tuple[CodeType, Definition]]:
        # The code objects are kept, so that no id is used again.
        return {}

    def find_function(self, code: CodeType) -> Definition | None:
        """Return the definition of a code object, found by its place and by what it does; None when it is not there."""
        if known := self._by_code.get(id(code)):
            return known[1]
        among = self._by_place.get((code.co_name, code.co_firstlineno), [])
        digest = code_digest(code)
        found = [one for one in among if one.compiled == digest]
        if not found and not self.is_checked and len(among) == 1:
            found = among
        if found:
            self._by_code[id(code)] = code, found[0]
        return found[0] if found else None

    def find_classes(self, qualname: str) -> list[Definition]:
        """Return the definitions of a class; several when branches define it."""
        return self._classes.get(qualname, [])

    def text_of(self, definition: Definition) -> str:
        """Return the text of a definition as it is written, without its indentation."""
        return textwrap.dedent("\n".join(self.lines[definition.first_line - 1 : definition.last_line]))


def source_file(path: str, module_globals: Mapping[str, Any], flags: int = 0) -> SourceFile | None:
    """Return a parsed file, or the text of that name in a notebook or a zip; None without text.

    `flags` are the future statements under which a notebook's cell was compiled.
    """
    status = os.stat(path) if os.path.isfile(path) else None  # noqa: PTH113, PTH116 - called for each function
    if status is None:
        text = "".join(linecache.getlines(path, dict(module_globals)))
        return _parse(path, text.encode(), flags, False) if text else None
    signature = status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
    known = _files.get(path)
    if known is None or known[0] != signature:
        if len(_files) >= _MAX_FILES:
            _files.clear()
        _files[path] = known = signature, _parse(path, Path(path).read_bytes(), 0, "@pytest_ar" not in module_globals)
    return known[1]


# What was read in this process: a file is read again when its status differs.
_files: dict[str, tuple[tuple[int, ...], SourceFile]] = {}


@lru_cache(maxsize=_MAX_FILES)
def _parse(path: str, content: bytes, flags: int, is_checked: bool) -> SourceFile:
    try:
        text = importlib.util.decode_source(content)
        return SourceFile(path, text, _summary(content, text, flags), is_checked)
    except (SyntaxError, ValueError) as error:
        raise FingerprintError(f"{Path(path).name} cannot be parsed: {error}. Set cache=False.") from error


def _summary(content: bytes, text: str, flags: int) -> Summary:
    """Return the summary of a text, from this machine's disk where an earlier process made it."""
    folder = _private_directory()
    path = folder / sha256(b"%d " % flags + _maker() + content).hexdigest() if folder else None
    found = _read_summary(path) if path else None
    if found is None:
        found = summarize(text, flags)
        if path:
            _store_summary(path, found)
    return found


@cache
def _maker() -> bytes:
    """Return what a summary depends on besides the text: our own code and Python's."""
    ours = Path(inspect.getfile(summarize)).read_bytes()
    return sha256(f"{sys.version} {sys.flags.optimize}".encode() + ours).digest()


def _private_directory() -> Path | None:
    """Return a directory that no other user may write; None when there is none."""
    path = Path(tempfile.gettempdir(), f"zen-code-{os.geteuid()}")
    try:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        status = path.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
    return path if is_ours else None


def _read_summary(path: Path) -> Summary | None:
    """Return a stored summary; None without one, or for a damaged one."""
    try:
        content = path.read_bytes()
        digest, packed = content[:32], content[32:]
        return msgspec.msgpack.decode(packed, type=Summary) if sha256(packed).digest() == digest else None
    except (OSError, msgspec.MsgspecError):
        return None


def _store_summary(path: Path, summary: Summary) -> None:
    """Store a summary by one rename; a disk that is full or read-only costs the next process the time."""
    packed = msgspec.msgpack.encode(summary)
    if len(packed) > _MAX_STORED_BYTES:
        return
    with suppress(OSError):
        stored = list(path.parent.iterdir())
        if len(stored) >= _MAX_STORED:
            _remove_oldest(stored)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(sha256(packed).digest() + packed)
        Path(file.name).replace(path)


def _remove_oldest(paths: list[Path]) -> None:
    """Remove half of the files."""
    ages = []
    for path in paths:
        with suppress(FileNotFoundError):
            ages.append((path.stat().st_mtime, path))
    for _, path in sorted(ages)[: len(ages) // 2]:
        path.unlink(missing_ok=True)


def function_definition(function: FunctionType) -> tuple[SourceFile, Definition]:
    """Return the file and the definition of a function.

    Raises `FingerprintError` when there is no text, or when the file was edited after the function was loaded.
    """
    code = function.__code__
    path, names = code.co_filename, function.__globals__
    for _ in range(2):
        source = source_file(path, names, code.co_flags & _FUTURE_FLAGS)
        if source is None:
            raise FingerprintError(
                f"{function.__qualname__!r} has no source text: it was typed at a prompt or made by exec. "
                "Define it in a file, or set cache=False."
            )
        if found := source.find_function(code):
            return source, found
        # Perhaps it was written twice within the resolution of the file's time.
        _files.pop(path, None)
    raise FingerprintError(
        f"The running code of {code.co_name!r} is not what {Path(path).name} holds now. "
        "Restart the process or reload the module, or set cache=False."
    )


def instance_contents(value: Any) -> Any:
    """Return all that an instance of a project's class holds, or None when part of it is hidden in C."""
    cls = type(value)
    if not all(base.__flags__ & _HEAP_TYPE or base in (object, Exception, BaseException) for base in cls.__mro__):
        return None
    arguments = value.args if isinstance(value, BaseException) else ()
    return arguments, instance_attributes(value)


def descriptor_functions(value: Any) -> tuple[Any, ...]:
    """Return the functions behind a static or class method, a property or a cached property."""
    if isinstance(value, staticmethod | classmethod):
        return (value.__func__,)
    if isinstance(value, property):
        return tuple(each for each in (value.fget, value.fset, value.fdel) if each)
    return (value.func,) if isinstance(value, functools.cached_property) else ()


def origin_of_function(function: FunctionType) -> CodeOrigin:
    """Return whose code a function is, by the file of its code object."""
    file = function.__code__.co_filename
    module = str(function.__globals__.get("__name__", ""))
    if file.startswith("<"):
        # A notebook's cells belong to no file, and `__main__` has the file of the notebook server.
        return "project" if module == "__main__" else origin_of_module(module)
    return origin_of_module(module, file)


def closure_variables(function: FunctionType) -> dict[str, Any]:
    """Return the variables of enclosing functions that a function uses; `MISSING` for one not yet set."""
    names = function.__code__.co_freevars
    cells = zip(names, function.__closure__ or (), strict=True)
    return {name: cell_value(cell) for name, cell in cells if name != "__class__"}


def cell_value(cell: CellType) -> Any:
    """Return the content of a closure's cell, `MISSING` before it is set."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


class ClassSource(msgspec.Struct, frozen=True):
    """The text of a class (several texts when branches define it), and the names its methods see."""

    source: SourceFile
    definitions: tuple[Definition, ...]
    globals: Mapping[str, Any]
    cells: Mapping[str, Any]

    def runtime_attributes(self, cls: type) -> Iterator[tuple[str, Any]]:
        """Yield each attribute whose present value the text does not tell."""
        written = {name: text for each in self.definitions for name, text in each.literals.items()}
        for name, value in sorted(vars(cls).items()):
            if name.startswith("__") or (name.startswith("_") and name.endswith("_")) or self._is_method(value):
                continue
            if name in written:
                if written[name] != constant_text(value) and not hasattr(type(value), "__set__"):
                    yield name, value
            elif type(value) in _PLAIN_TYPES or _underlying_function(value) is not None:
                yield name, value

    def _is_method(self, value: Any) -> bool:
        function = _underlying_function(value)
        if function is None:
            return False
        code = function.__code__
        spans = [(each.first_line, each.last_line) for each in self.definitions]
        inside = any(begin <= code.co_firstlineno <= end for begin, end in spans)
        return code.co_filename.startswith("<") or (code.co_filename == self.source.path and inside)


def class_source(cls: type) -> ClassSource | None:
    """Return the text of a class; None for one that was made by a call.

    Raises `FingerprintError` when its file was edited after it was loaded.
    """
    methods = [each for each in map(_underlying_function, vars(cls).values()) if each is not None]
    module = sys.modules.get(cls.__module__)
    names = vars(module) if module else methods[0].__globals__ if methods else {}
    own = [
        each for each in methods if each.__globals__ is names and not each.__code__.co_filename.startswith("<string")
    ]
    path = names.get("__file__") or next((each.__code__.co_filename for each in own), None)
    source = source_file(path, names) if path else None
    found = source.find_classes(cls.__qualname__) if source else []
    if source is None or not found:
        return None
    written = [each for each in own if each.__code__.co_filename == source.path]
    for each in written:
        function_definition(each)
    cells = {name: value for each in written for name, value in closure_variables(each).items() if value is not MISSING}
    return ClassSource(source, tuple(found), names, cells)


def _underlying_function(value: Any) -> FunctionType | None:
    """Return the function behind a method of any kind."""
    functions = descriptor_functions(value)
    value = unwrap_callable(functions[0] if functions else value)
    return value if isinstance(value, FunctionType) else None


def dynamic_class_contents(cls: type) -> dict[str, Any]:
    """Return what makes up a class that was made by a call, such as a namedtuple."""
    return {name: each for name, each in vars(cls).items() if _is_content(cls, name, each)}


def _is_content(cls: type, name: str, value: Any) -> bool:
    if name.startswith("__") or (name.startswith("_") and hasattr(cls, "__members__")):
        return False
    if isinstance(value, FunctionType | classmethod | staticmethod | property):
        functions = (value,) if isinstance(value, FunctionType) else descriptor_functions(value)
        inner = unwrap_callable(functions[0] if functions else None)
        is_written = isinstance(inner, FunctionType) and not inner.__code__.co_filename.startswith("<")
        return is_written and origin_of_function(inner) == "project"
    is_builtin = type(value).__module__ in ("builtins", "collections", "_collections")
    return not (is_builtin and hasattr(type(value), "__get__"))
