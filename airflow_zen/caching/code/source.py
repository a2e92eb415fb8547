"""Source files, parsed once and searched by position; and the code behind functions, classes and wrappers."""

from __future__ import annotations
import __future__

import functools
import importlib.util
import linecache
import operator
import os
import stat
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from types import CellType, CodeType, FunctionType
from typing import Any

import msgspec

from airflow_zen.caching.code.distributions import MISSING, CodeOrigin, is_compiled, origin_of_module
from airflow_zen.caching.code.summary import Definition, Summary, code_digest
from airflow_zen.errors import FingerprintError

_FUTURE_FLAGS = functools.reduce(
    operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)

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
    def folder(self) -> str:
        """The folder of the file."""
        return str(Path(self.path).parent)

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
    def _by_name(self) -> dict[str, list[Definition]]:
        found: dict[str, list[Definition]] = {}
        for one in self.summary.definitions:
            found.setdefault(one.qualname, []).append(one)
        return found

    @cached_property
    def _by_code(self) -> dict[int, tuple[CodeType, Definition]]:
        # The code objects are kept, so that no id is used again.
        return {}

    def find_function(self, code: CodeType) -> Definition | None:
        """Return the definition of a code object, found by its position and contents; None if it is not there."""
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

    def find_definitions(self, qualname: str) -> list[Definition]:
        """Return the definitions of a name; several when it is defined in branches, or again."""
        return self._by_name.get(qualname, [])

    def find_classes(self, qualname: str) -> list[Definition]:
        """Return the definitions of a class; several when branches define it."""
        return [one for one in self.find_definitions(qualname) if one.compiled is None]

    def text_of(self, definition: Definition) -> str:
        """Return the text of a definition as it is written, without its indentation."""
        known = self._texts.get(id(definition))
        if known is None:
            known = "\n".join(self.lines[definition.first_line - 1 : definition.last_line])
            # `dedent` takes as long as a tenth of the parser.
            self._texts[id(definition)] = known = textwrap.dedent(known) if known[:1].isspace() else known
        return known

    @cached_property
    def _texts(self) -> dict[int, str]:
        return {}


def source_file(path: str, module_globals: Mapping[str, Any], flags: int = 0) -> SourceFile | None:
    """Return a parsed file, or the text of that name in a notebook or a zip; None without text, as of an extension module.

    `flags` are the future statements under which a notebook's cell was compiled.
    """
    if is_compiled(path) or path.endswith(".pyc"):
        return None
    try:
        status = os.stat(path)  # noqa: PTH116 - called for each function
    except (OSError, ValueError):
        status = None
    if status is None or not stat.S_ISREG(status.st_mode):
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
        # Loaded only for text that this machine has not seen.
        from airflow_zen.caching.code.syntax import summarize

        found = summarize(text, flags)
        if path:
            _store_summary(path, found)
    return found


@cache
def _maker() -> bytes:
    """Return the inputs of a summary besides the text: the version of the code that makes it, and Python's."""
    ours = (Path(__file__).with_name(f"{name}.py") for name in ("expressions", "summary", "syntax"))
    text = b"".join(path.read_bytes() for path in ours)
    return sha256(f"{sys.version} {sys.flags.optimize}".encode() + text).digest()


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
        if len(os.listdir(path.parent)) >= _MAX_STORED:  # noqa: PTH208 - a thousand paths take a millisecond
            _remove_oldest(list(path.parent.iterdir()))
        descriptor, name = tempfile.mkstemp(dir=path.parent)
        with open(descriptor, "wb") as file:  # noqa: PTH123
            file.write(sha256(packed).digest() + packed)
        Path(name).replace(path)


def _remove_oldest(paths: list[Path]) -> None:
    """Remove the older half of the files."""
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


def origin_of_function(function: FunctionType) -> CodeOrigin:
    """Return the origin of a function, by the file of its code object."""
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
